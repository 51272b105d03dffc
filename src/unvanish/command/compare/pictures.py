"""A comparison's pictures in TensorBoard."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from unvanish.gradients.show.events import OVERVIEW

_SUFFIX = ".comparison"
#: TensorBoard sorts by name, and its cards are small: what is read at a glance, the scalars, comes before pictures.
_TAGS = {"comparison": f"{OVERVIEW}/variants", "comparison_map": f"{OVERVIEW}/variants_map"}


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
