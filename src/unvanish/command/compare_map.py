"""The heat maps of a comparison's variants side by side, on the one scale, and its pictures in TensorBoard."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from unvanish.command.compare_deltas import kept_deltas
from unvanish.command.compare_table import Comparison
from unvanish.gradients.show.events import OVERVIEW
from unvanish.gradients.show.heat_map import side_by_side

_SUFFIX = ".comparison"
#: TensorBoard sorts by name, and its cards are small: what is read at a glance, the scalars, comes before pictures.
_TAGS = {"comparison": f"{OVERVIEW}/variants", "comparison_map": f"{OVERVIEW}/variants_map"}


def map_of(comparison: Comparison, folder: Path) -> bytes | None:
    """A PNG with the first finished run of each variant; None where none has kept its gradients.

    Args:
        comparison: What is drawn.
        folder: Where its runs are kept.
    """
    firsts = {row.variant: row.finished[0].seed for row in comparison.rows if row.finished}
    kept = {name: kept_deltas(folder / name / f"seed{seed}") for name, seed in firsts.items()}
    runs = {name: deltas for name, deltas in kept.items() if deltas}
    return side_by_side(runs) if runs else None


def to_tensorboard(pictures: dict[str, bytes], step: int, folder: Path) -> None:
    """Write PNGs to the comparison's own event file, in place of those of an earlier one.

    Args:
        pictures: By the names of their files.
        step: That they are shown at.
        folder: The comparison's.
    """
    for old in folder.glob(f"events.out.tfevents.*{_SUFFIX}"):
        old.unlink()
    with SummaryWriter(folder, filename_suffix=_SUFFIX) as writer:
        for name, png in pictures.items():
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            writer.add_image(_TAGS[name], pixels, step, dataformats="HWC")
