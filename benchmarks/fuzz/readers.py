"""Whole files of each kind, and what reads them."""

import io
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from unvanish.command import recipes
from unvanish.command.checkpoint_file import write
from unvanish.command.checkpoints import KEPT, load_checkpoint
from unvanish.command.resumable import check_resumable
from unvanish.data import ImageFolder, LabelledText, Loading, Series, Tabular, Text
from unvanish.data.file_rows import in_memory

_ROWS, _SMALL = 40, Loading(batch_size=2)


class Reader(NamedTuple):
    """One kind of file.

    Args:
        name: The file's.
        whole: Makes a good one.
        read: Reads one, as a command would.
    """

    name: str
    whole: Callable[[Path], Any]
    read: Callable[[Path], Any]


def _frame() -> pd.DataFrame:
    steps = np.arange(_ROWS)
    return pd.DataFrame({"x": steps * 0.5, "kind": [("a", "b", "c")[i % 3] for i in steps], "y": steps % 2})


def _csv(path: Path) -> None:
    _frame().to_csv(path, index=False)


def _parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(_frame()), path)


def _series(path: Path) -> None:
    days = pd.date_range("2001-01-01", periods=60).strftime("%Y-%m-%d")
    pd.DataFrame({"day": days, "price": np.sin(np.arange(60))}).to_csv(path, index=False)


def _reviews(path: Path) -> None:
    words = ("good fine nice", "bad poor sad")
    rows = [{"text": f"{words[i % 2]} {i}", "label": ("up", "down")[i % 2]} for i in range(_ROWS)]
    pd.DataFrame(rows).to_csv(path, index=False)


def _book(path: Path) -> None:
    path.write_text("It was a dark night, and nobody read.\n" * 20, encoding="utf-8")


def _picture(path: Path) -> None:
    for number in range(12):
        file = path.parent / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6, 3), 20 * number, np.uint8)).save(file)
    buffer = io.BytesIO()
    Image.fromarray(np.arange(108, dtype=np.uint8).reshape(6, 6, 3)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


def _read_picture(path: Path) -> None:
    target = path.parent / "images/a/odd.png"
    target.write_bytes(path.read_bytes())
    _ = ImageFolder(path=str(path.parent / "images"), image_size=6, cache="memory", loading=_SMALL).splits


def _clip(path: Path) -> None:
    for number in range(12):
        _film(path.parent / "clips" / "ab"[number % 2] / f"{number}.avi", 20 * number)
    _film(path, 7)


def _film(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        for number in range(5):
            picture = np.full((16, 16, 3), grey + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _read_clip(path: Path) -> None:
    (path.parent / "clips/a/odd.avi").write_bytes(path.read_bytes())
    _ = ImageFolder(path=str(path.parent / "clips"), image_size=8, frames=3, cache="memory", loading=_SMALL).splits


def _cached(path: Path, cache: str) -> torch.Tensor:
    """The pixels of twelve pictures, kept beside them."""
    folder = path.parent / "kept"
    options = {"cache": cache, "cache_folder": str(folder), "loading": _SMALL}
    data = ImageFolder(path=str(path.parent / "images"), image_size=6, **options)
    return torch.cat([in_memory(part[0]) for part in data.splits[:3]])


def _cache(path: Path) -> None:
    """One of the two files of a cache, the one with the same ending."""
    _picture(path)
    _cached(path, "file")
    shutil.copyfile(next((path.parent / "kept").glob(f"*{path.suffix}")), path)


def _read_cache(path: Path) -> None:
    shutil.copyfile(path, next((path.parent / "kept").glob(f"*{path.suffix}")))
    if not torch.equal(_cached(path, "file"), _cached(path, "memory")):
        raise AssertionError("other pixels than those of the files")


def _checkpoint(path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    counts = {which: {"ready": 3, "completed": 3} for which in ("current", "total")}
    progress = {"epoch_progress": counts, "epoch_loop.state_dict": {}, "epoch_loop.batch_progress": counts}
    steps = {"epoch_loop.automatic_optimization.optim_progress": {"optimizer": {"step": counts}}}
    loops = {"fit_loop": {"state_dict": {}, **progress, **steps}}
    kept = {
        "place": "epoch",
        "batches_that_stepped": 3,
        "random": [],
        "identity": "",
        "logs": {"rows": 3, "events": {}},
        "threads": 1,
    }
    callbacks = {"ResultWriter": {"points": [], "seconds": 0.0}}
    rest = {
        "optimizer_states": [],
        "lr_schedulers": [],
        "loops": loops,
        "global_step": 3,
        "epoch": 1,
        "callbacks": callbacks,
    }
    names = {"hyper_parameters": {"hidden_sizes": [3]}, "pytorch-lightning_version": "2.6.6", KEPT: kept}
    write({"state_dict": layer.state_dict(), **rest, **names}, path)


def _bare_checkpoint(path: Path) -> None:
    torch.save({"state_dict": torch.nn.Linear(3, 2).state_dict(), "hyper_parameters": {"width": 3}}, path)


def _recipe(path: Path) -> None:
    path.write_text(
        "model: {class_path: unvanish.MLP, hidden_sizes: [3, 4]}\n"
        "data:\n  class_path: unvanish.Images\n  dataset: digits\n"
        "model.training.optimizer: {name: sgd, learning_rate: 1e-2}\ntrainer: {max_epochs: 3}\n",
        encoding="utf-8",
    )


def _comparison(path: Path) -> None:
    path.write_text(
        "base: quickstart\nvariants:\n  a: {}\n  b: {model.activation: tanh}\ngrid: {model.hidden_sizes: [[3], [4]]}\n",
        encoding="utf-8",
    )


def _read_recipe(path: Path) -> None:
    if recipes.is_comparison(recipes.read(path)):
        recipes.variants(path)
    else:
        recipes.load([str(path)])


#: By kind.
READERS = {
    "table": Reader("rows.csv", _csv, lambda path: Tabular(path=str(path), target="y", loading=_SMALL).splits),
    "Parquet": Reader(
        "rows.parquet", _parquet, lambda path: Tabular(path=str(path), target="y", loading=_SMALL).splits
    ),
    "series": Reader(
        "series.csv", _series, lambda path: Series(path=str(path), targets=["price"], window=5, loading=_SMALL).splits
    ),
    "labelled text": Reader("reviews.csv", _reviews, lambda path: LabelledText(path=str(path), loading=_SMALL).splits),
    "text": Reader(
        "book.txt",
        _book,
        lambda path: Text(path=str(path), context_length=8, loading=Loading(batch_size=2, test_share=0.1)).splits,
    ),
    "image": Reader("odd.png", _picture, _read_picture),
    "clip": Reader("odd.avi", _clip, _read_clip),
    "cache": Reader("kept.npz", _cache, _read_cache),
    "cached pixels": Reader("kept.bytes", _cache, _read_cache),
    "checkpoint": Reader("last.ckpt", _checkpoint, lambda path: check_resumable(path, load_checkpoint(path))),
    "checkpoint without a checksum": Reader("bare.ckpt", _bare_checkpoint, load_checkpoint),
    "recipe": Reader("recipe.yaml", _recipe, _read_recipe),
    "comparison": Reader("comparison.yaml", _comparison, _read_recipe),
}


def spoiled(whole: bytes, seed: int) -> bytes:
    """A file with a few things wrong: bytes changed, taken out, doubled, or words that mean something put in."""
    random = np.random.default_rng(seed)
    content = bytearray(whole)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, len(content) + 1))
        length = int(random.integers(1, 1 + max(1, len(content) // 8)))
        match int(random.integers(0, 6)):
            case 0 if at < len(content):
                content[at] = int(random.integers(0, 256))
            case 1:
                del content[at : at + length]
            case 2:
                content[at:at] = content[at : at + length]
            case 3:
                content[at:at] = _WORDS[int(random.integers(0, len(_WORDS)))]
            case 4:
                del content[at:]
            case _:
                content[at : at + 1] = random.bytes(int(random.integers(1, 9)))
    return bytes(content) if content != whole else spoiled(whole, seed + 2**40)  # it may take out what it put in


_WORDS = [
    *(b'"', b"'", b",", b";", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN", b"1e309", b"-0", b"1_000"),
    *(
        b"&a [*a, *a]",
        b"*a",
        b"!!python/object:os.system",
        b"<<: ",
        b"? ",
        b"{",
        b"[",
        b"}: ",
        b"- ",
        b"\t",
        b"2001-01-01",
    ),
    *(b": null", b": 1e999", b"name: ../x", b"class_path: os.system", b"9" * 400, b"[" * 60, "é\u202e".encode()),
]


def crc(content: bytes) -> str:
    """A short name for a file's content."""
    return f"{zlib.crc32(content):08x}"
