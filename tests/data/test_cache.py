import os
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from pictures import HEIGHT, WIDTH, cut_short, pixels, read, same, write
from PIL import Image
from torch import nn

from unvanish.data import BatchLoader, cache
from unvanish.data.augmentation import Augmentation
from unvanish.data.cache import DecodingLoader
from unvanish.data.image_folder import ImageDecoder

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12


def batches(data, passes=2):
    """All that a run on ``data`` is given, as the network sees it."""
    given = []
    for loader, count in (
        (data.train_dataloader(), passes),
        (data.val_dataloader(), 1),
        (data.predict_dataloader(), 1),
    ):
        for _ in range(count):
            given += [data.on_after_batch_transfer(batch, 0) for batch in loader]
    return given


@pytest.mark.parametrize("where", ["file", "none"])
def test_batches_are_the_same_wherever_the_pixels_are_kept(pets, image_folder, tmp_path, where):
    write(tmp_path / "new", {"": 8}, 100)
    cut_short(pets / "dog" / "020.png")
    options = {"on_error": "skip", "predict_path": str(tmp_path / "new"), "seed": 3}
    in_memory, there = (image_folder(pets, cache=name, **options) for name in ("memory", where))
    expected = batches(in_memory)
    assert len(expected) == 2 * 6 + 1 + 2  # the last single one joins
    assert expected[0][0].dtype == torch.float32
    state = torch.random.get_rng_state()
    assert same(batches(there), expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(batches(image_folder(pets, cache=where, **options)), expected)  # a file is found again


def count_decoded(monkeypatch):
    decoded, original = [], ImageDecoder.__call__
    monkeypatch.setattr(ImageDecoder, "__call__", lambda self, path: decoded.append(path) or original(self, path))
    return decoded


def test_a_file_is_written_once_and_again_when_an_image_changes(pets, image_folder, tmp_path, monkeypatch):
    decoded = count_decoded(monkeypatch)
    x = image_folder(pets, cache="file").splits.train[0]
    assert len(decoded) == 53
    assert torch.equal(image_folder(pets, cache="file", seed=8).splits.train[0], x)
    assert len(decoded) == 53
    (pets / "cat" / "001.png").write_bytes((pets / "owl" / "031.png").read_bytes() + b"\0")
    assert (image_folder(pets, cache="file").splits.train[0] != x).any()
    assert len(decoded) == 2 * 53
    os.utime(pets / "cat" / "002.png", (1, 1))
    for options in ({}, {"channels": 1}, {"split_seed": 5}):
        before = len(decoded)
        read(image_folder(pets, cache="file", **options))
        assert len(decoded) == before + 53
    assert Counter(path.suffix for path in (tmp_path / "cache").iterdir()) == {".npz": 5, ".bytes": 5}


def test_a_file_is_known_by_its_content_where_size_and_time_are_those_of_another(pets, image_folder):
    x = image_folder(pets, cache="file").splits.train[0]
    path = pets / "cat" / "003.png"
    Image.fromarray(pixels(3)).save(path, compress_level=0)
    os.utime(path, (5, 5))
    size = path.stat().st_size
    read(image_folder(pets, cache="file"))
    Image.fromarray(pixels(150)).save(path, compress_level=0)
    os.utime(path, (5, 5))
    assert path.stat().st_size == size
    splits = image_folder(pets, cache="file").splits
    found = torch.cat([part[0] for part in splits[:3]])
    assert found.shape[0] == 53
    assert any(np.array_equal(image.numpy(), pixels(150).transpose(2, 0, 1)) for image in found)
    assert x.shape == splits.train[0].shape


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "foreign": lambda content: bytes(len(content)),
    "longer": lambda content: content + b"x",
}


@pytest.mark.parametrize("suffix", [".npz", ".bytes"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_anew_and_that_is_said(pets, image_folder, tmp_path, caplog, suffix, damage):
    expected = image_folder(pets, cache="memory").splits.train[0]
    read(image_folder(pets, cache="file"))
    (path,) = (tmp_path / "cache").glob(f"*{suffix}")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    whole = suffix == ".npz" and damage == "longer"  # a zip file may go on
    for _ in range(2):
        caplog.clear()
        assert torch.equal(image_folder(pets, cache="file").splits.train[0], expected)
        assert ("is damaged and is made anew" in caplog.text) == (not whole)
        whole = True


def test_what_cannot_be_read_is_remembered_beside_the_file(pets, image_folder, caplog):
    cut_short(pets / "dog" / "020.png")
    for _ in range(2):
        caplog.clear()
        read(image_folder(pets, cache="file", on_error="skip"))
        assert "1 of 53 images cannot be read" in caplog.text
    with pytest.raises(ValueError, match=r"1 of 53 images cannot be read: .*dog/020.png"):
        read(image_folder(pets, cache="file"))


@pytest.mark.parametrize("where", ["memory", "file"])
def test_splits_are_views_of_one_cache(pets, image_folder, where):
    splits = image_folder(pets, cache=where).splits
    assert len({x.untyped_storage().data_ptr() for x, _ in splits[:3]}) == 1
    assert splits.train[0].untyped_storage().nbytes() == 53 * 3 * HEIGHT * WIDTH


SIZE = 53 * 3 * HEIGHT * WIDTH


@pytest.mark.parametrize(
    ("memory", "disk", "where"),
    [(4 * SIZE, 0, "memory"), (4 * SIZE - 1, SIZE * 10 // 9 + 1, "file"), (0, SIZE, "none")],
)
def test_auto_keeps_pixels_where_they_fit(pets, image_folder, tmp_path, monkeypatch, memory, disk, where):
    monkeypatch.setattr(cache, "_memory", lambda: memory)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=disk))
    loader = image_folder(pets).train_dataloader()
    assert isinstance(loader, DecodingLoader if where == "none" else BatchLoader)
    assert (tmp_path / "cache").is_dir() == (where == "file")


def test_memory_is_what_the_machine_or_its_container_has():
    assert 2**28 < cache._memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_cache_that_cannot_be_written_is_one_line(pets, image_folder, tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(ValueError, match=r"^cannot write the cache .*plain/cache/.*bytes: Not a directory; see cache"):
        read(image_folder(pets, cache="file", cache_folder=str(tmp_path / "plain" / "cache")))


def test_device_resident_images_stay_bytes(pets, image_folder):
    data = image_folder(pets, device_resident=True)
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=0, world_size=1, overfit_batches=0
    )
    x, y = next(iter(data.train_dataloader()))
    assert (x.device.type, y.device.type, x.dtype) == ("meta", "meta", torch.uint8)


def test_device_resident_is_refused_where_nothing_is_kept(pets, image_folder):
    with pytest.raises(ValueError, match=r"^device_resident needs cache=memory or cache=file"):
        image_folder(pets, device_resident=True, cache="none").train_dataloader()


class Diary(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * HEIGHT * WIDTH, 3)
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append(batch[0].clone())
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, index):
        self.layer(batch[0].flatten(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(data, *callbacks, checkpoint=None, **options):
    model = Diary()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(
        callbacks=list(callbacks), enable_checkpointing=bool(callbacks), **quiet | {"max_epochs": 2} | options
    )
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return model.seen


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("where", ["memory", "file", "none"])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(pets, image_folder, tmp_path, where):
    options = {"cache": where, "batch_size": 13, "augmentation": Augmentation(crop=1, flip=True)}
    every_step = ModelCheckpoint(tmp_path / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(image_folder(pets, **options), every_step)
    assert len(whole) == 6
    assert same([(x,) for x in whole], [(x,) for x in fit(image_folder(pets, **options | {"cache": "memory"}))])
    for step in range(1, 6):
        rest = fit(image_folder(pets, **options), every_step, checkpoint=tmp_path / "steps" / f"step={step}.ckpt")
        assert same([(x,) for x in rest], [(x,) for x in whole[step:]])


def steps(loader, *, takes):
    """What a loader gives and where it stands, through passes of which each is broken off after so many batches."""
    seen = []
    for take in takes:
        if take is None:
            loader.set_epoch(loader.state_dict()["epoch"] + 1)
        elif isinstance(take, dict):
            loader.load_state_dict(take)
        else:
            for (_, y), _ in zip(loader, range(take), strict=False):
                seen.append((y.tolist(), dict(loader.state_dict())))
    return seen


@pytest.mark.parametrize("stage", ["train", "val"])
@pytest.mark.parametrize(
    "takes", [(9, 9), (2, 9), (2, None, 9), ({"epoch": 2, "batch": 3}, 1, 9), ({"epoch": 2, "batch": 1}, None, 9)]
)
def test_a_decoding_loader_goes_where_a_batch_loader_goes(pets, image_folder, stage, takes):
    options = {"batch_size": 2} if stage == "val" else {}
    first, second = (
        getattr(image_folder(pets, cache=name, **options), f"{stage}_dataloader")() for name in ("memory", "none")
    )
    assert len(first) == len(second)
    assert steps(first, takes=takes) == steps(second, takes=takes)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_bytes_take_the_precision_of_the_trainer(pets, image_folder, precision):
    dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}[precision]
    seen = fit(image_folder(pets, augmentation=Augmentation(crop=1)), precision=precision)
    assert {x.dtype for x in seen} == {dtype}
