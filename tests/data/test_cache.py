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

from unvanish.data import cache
from unvanish.data.augmentation import Augmentation
from unvanish.data.image_decoder import ImageDecoder


def trained_on(data):
    """The pixels to train on that a file holds."""
    return data.splits.train[0].read()


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


def test_batches_are_the_same_wherever_the_pixels_are_kept(pets, image_folder, tmp_path):
    write(tmp_path / "new", {"": 8}, 100)
    cut_short(pets / "dog" / "020.png")
    options = {"on_error": "skip", "predict_path": str(tmp_path / "new"), "seed": 3}
    in_memory, there = (image_folder(pets, cache=name, **options) for name in ("memory", "file"))
    expected = batches(in_memory)
    assert len(expected) == 2 * 6 + 1 + 2  # the last single one joins
    assert expected[0][0].dtype == torch.float32
    state = torch.random.get_rng_state()
    assert same(batches(there), expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(batches(image_folder(pets, cache="file", **options)), expected)  # a file is found again


def count_decoded(monkeypatch):
    decoded, original = [], ImageDecoder.__call__
    monkeypatch.setattr(ImageDecoder, "__call__", lambda self, path: decoded.append(path) or original(self, path))
    return decoded


def test_a_file_is_written_once_and_again_when_an_image_changes(pets, image_folder, tmp_path, monkeypatch):
    decoded = count_decoded(monkeypatch)
    x = trained_on(image_folder(pets, cache="file"))
    assert len(decoded) == 53
    assert torch.equal(trained_on(image_folder(pets, cache="file", seed=8)), x)
    assert len(decoded) == 53
    (pets / "cat" / "001.png").write_bytes((pets / "owl" / "031.png").read_bytes() + b"\0")
    assert (trained_on(image_folder(pets, cache="file")) != x).any()
    assert len(decoded) == 2 * 53
    os.utime(pets / "cat" / "002.png", (1, 1))
    for options in ({}, {"channels": 1}, {"split_seed": 5}):
        before = len(decoded)
        read(image_folder(pets, cache="file", **options))
        assert len(decoded) == before + 53
    assert Counter(path.suffix for path in (tmp_path / "cache").iterdir()) == {".npz": 5, ".bytes": 5}


def test_a_file_is_known_by_its_content_where_size_and_time_are_those_of_another(pets, image_folder):
    x = trained_on(image_folder(pets, cache="file"))
    path = pets / "cat" / "003.png"
    Image.fromarray(pixels(3)).save(path, compress_level=0)
    os.utime(path, (5, 5))
    size = path.stat().st_size
    read(image_folder(pets, cache="file"))
    Image.fromarray(pixels(150)).save(path, compress_level=0)
    os.utime(path, (5, 5))
    assert path.stat().st_size == size
    splits = image_folder(pets, cache="file").splits
    found = torch.cat([part[0].read() for part in splits[:3]])
    assert found.shape[0] == 53
    assert any(np.array_equal(image.numpy(), pixels(150).transpose(2, 0, 1)) for image in found)
    assert x.shape == splits.train[0].shape


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "foreign": lambda content: bytes(len(content)),
    "longer": lambda content: content + b"x",
    "flipped": lambda content: (
        content[: len(content) // 3] + bytes([content[len(content) // 3] ^ 1]) + content[len(content) // 3 + 1 :]
    ),
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
        assert torch.equal(trained_on(image_folder(pets, cache="file")), expected)
        assert ("is damaged and will be rebuilt" in caplog.text) == (not whole)
        whole = True


def test_what_cannot_be_read_is_remembered_beside_the_file(pets, image_folder, caplog):
    cut_short(pets / "dog" / "020.png")
    for _ in range(2):
        caplog.clear()
        read(image_folder(pets, cache="file", on_error="skip"))
        assert "1 of 53 images cannot be read" in caplog.text
    with pytest.raises(ValueError, match=r"1 of 53 images cannot be read: .*dog/020.png"):
        read(image_folder(pets, cache="file"))


def test_splits_are_views_of_one_cache(pets, image_folder):
    splits = image_folder(pets, cache="memory").splits
    assert len({x.untyped_storage().data_ptr() for x, _ in splits[:3]}) == 1
    assert splits.train[0].untyped_storage().nbytes() == 53 * 3 * HEIGHT * WIDTH


SIZE = 53 * 3 * HEIGHT * WIDTH


def test_what_the_memory_has_no_room_for_is_sent_to_a_file(pets, image_folder, monkeypatch):
    monkeypatch.setattr(cache, "_memory", lambda: 2 * SIZE)
    expected = read(image_folder(pets)).train[0]
    monkeypatch.setattr(cache, "_memory", lambda: 2 * SIZE - 1)
    with pytest.raises(ValueError, match=r"^53 files of \(3, 5, 7\) take 0.0 GiB, more .*; cache=file keeps"):
        read(image_folder(pets))
    assert torch.equal(trained_on(image_folder(pets, cache="file")), expected)


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(pets, image_folder, tmp_path, where):
    options = {"cache": where, "batch_size": 13, "augmentation": Augmentation(crop=1, flip=True)}
    every_step = ModelCheckpoint(tmp_path / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(image_folder(pets, **options), every_step)
    assert len(whole) == 6
    assert same([(x,) for x in whole], [(x,) for x in fit(image_folder(pets, **options | {"cache": "memory"}))])
    for step in range(1, 6):
        rest = fit(image_folder(pets, **options), every_step, checkpoint=tmp_path / "steps" / f"step={step}.ckpt")
        assert same([(x,) for x in rest], [(x,) for x in whole[step:]])
