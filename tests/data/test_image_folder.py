import logging
import os
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image, ImageDraw
from torch import nn

from unvanish.command.main import main
from unvanish.data import cache
from unvanish.data.augmentation import Augmentation
from unvanish.data.cache import DecodingLoader
from unvanish.data.image_folder import ImageDecoder, ImageFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12

HEIGHT, WIDTH = 5, 7
COUNTS = {"cat": 13, "dog": 17, "owl": 23}


def pixels(number):
    """A picture like no other."""
    return np.random.default_rng(number).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)


def write(folder, counts=COUNTS, start=0):
    """Numbered PNG files in a folder for each class; what each number's class is."""
    labels = {}
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for _ in range(count):
            number = start + len(labels)
            Image.fromarray(pixels(number)).save(folder / name / f"{number:03}.png")
            labels[number] = label
    return labels


def cut_short(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.fixture
def pets(tmp_path):
    write(tmp_path / "pets")
    return tmp_path / "pets"


@pytest.fixture
def load(tmp_path):
    def make(path, **options):
        defaults = {"image_size": [HEIGHT, WIDTH], "batch_size": 6, "cache_folder": str(tmp_path / "cache")}
        return ImageFolder(str(path), **defaults | options)

    return make


def read(data):
    return data.splits


def numbers(x):
    """Which pictures these are."""
    known = {pixels(number).transpose(2, 0, 1).tobytes(): number for number in range(200)}
    return [known[image.numpy().tobytes()] for image in x]


def test_every_image_is_in_one_split_with_its_class_s_share_and_its_pixels(pets, load):
    data = load(pets, validation_share=0.25, test_share=0.2)
    assert (data.task, data.input_shape, data.output_size) == ("multiclass", (3, HEIGHT, WIDTH), 3)
    assert data.class_names == ["cat", "dog", "owl"]
    found = {}
    for x, y in data.splits[:3]:
        assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
        found |= dict(zip(numbers(x), y.tolist(), strict=True))
    assert found == {number: (number >= 13) + (number >= 30) for number in range(53)}
    assert [Counter(y.tolist()) for _, y in data.splits[:3]] == [
        {0: 8, 1: 10, 2: 14},
        {0: 2, 1: 4, 2: 4},
        {0: 3, 1: 3, 2: 5},
    ]


def test_the_test_split_depends_on_the_split_seed_alone(pets, load):
    def tested(**options):
        return set(numbers(load(pets, **options).splits.test[0]))

    assert tested() == tested(validation_share=0.5, seed=3)
    assert tested() != tested(split_seed=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_normalised_by_the_training_split_on_their_way(pets, load, channels):
    data = load(pets, channels=channels)
    train, validation = (split[0].double() for split in data.splits[:2])
    mean, std = train.mean(dim=(0, 2, 3)), train.std(dim=(0, 2, 3), correction=0)
    for batch, plain in zip(data.val_dataloader(), validation.split(6), strict=True):
        x, y = data.on_after_batch_transfer(batch, 0)
        assert (x.dtype, x.shape[1:]) == (torch.float32, (channels, HEIGHT, WIDTH))
        expected = (plain - mean[:, None, None]) / std[:, None, None]
        assert torch.allclose(x.double(), expected, atol=1e-5)
        assert y is batch[1]


def test_two_classes_are_a_binary_task(tmp_path, load):
    write(tmp_path / "two", {"ham": 9, "egg": 11})
    data = load(tmp_path / "two")
    assert (data.task, data.output_size, data.class_names) == ("binary", 1, ["egg", "ham"])
    for x, y in data.splits[:3]:
        assert y.dtype == torch.float32
        assert y.tolist() == [float(number < 9) for number in numbers(x)]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_own_splits_stay_whole(tmp_path, load, name):
    root = tmp_path / "own"
    train = write(root / "train", {"a": 11, "b": 13})
    validation = write(root / name, {"a": 3, "b": 2}, 100)
    test = write(root / "test", {"b": 5}, 150)  # it need not show every class
    for (x, y), written in zip(load(root).splits[:3], (train, validation, test), strict=True):
        offset = min(written)
        classes = {offset: int(offset == 150)} | written if offset < 150 else dict.fromkeys(written, 1)
        assert dict(zip(numbers(x), y.int().tolist(), strict=True)) == classes


@pytest.mark.parametrize(("given", "sizes"), [("test", [22, 2, 5]), ("val", [19, 5, 5]), (None, [17, 2, 5])])
def test_an_absent_split_is_cut_from_train(tmp_path, load, given, sizes):
    root = tmp_path / "some"
    train = write(root / "train", {"a": 11, "b": 13})
    if given:
        write(root / given, {"a": 3, "b": 2}, 100)
    found = [numbers(x) for x, _ in load(root, test_share=0.2).splits[:3]]
    assert [len(part) for part in found] == sizes
    assert sorted(number for part in found for number in part if number < 100) == sorted(train)


def test_train_can_be_a_class_beside_others(tmp_path, load):
    write(tmp_path / "vehicles", {"bus": 7, "train": 7})
    assert load(tmp_path / "vehicles").class_names == ["bus", "train"]


def test_hidden_files_and_folders_and_other_kinds_of_file_are_left_alone(pets, load):
    (pets / ".ipynb_checkpoints").mkdir()
    (pets / "README.txt").write_text("pets")
    (pets / "cat" / "._000.png").write_bytes(b"\0\5\26\7")
    (pets / "cat" / "Thumbs.db").write_bytes(b"x")
    data = load(pets)
    assert data.class_names == ["cat", "dog", "owl"]
    assert sum(len(y) for _, y in data.splits[:3]) == 53


def test_images_lie_at_any_depth_with_any_case_of_suffix(tmp_path, load):
    write(tmp_path / "deep", {"a": 7, "b": 7})
    (tmp_path / "deep/a/2024/may").mkdir(parents=True)
    (tmp_path / "deep/a/000.png").rename(tmp_path / "deep/a/2024/may/000.PNG")
    assert sum(len(y) for _, y in load(tmp_path / "deep").splits[:3]) == 14


# Where the pixels are kept


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


def same(first, second):
    return len(first) == len(second) and all(
        len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("where", ["file", "none"])
def test_batches_are_the_same_wherever_the_pixels_are_kept(pets, load, tmp_path, where):
    write(tmp_path / "new", {"": 8}, 100)
    cut_short(pets / "dog" / "020.png")
    options = {"on_error": "skip", "predict_path": str(tmp_path / "new"), "seed": 3}
    in_memory, there = (load(pets, cache=name, **options) for name in ("memory", where))
    expected = batches(in_memory)
    assert len(expected) == 2 * 6 + 1 + 2  # the last single one joins
    assert expected[0][0].dtype == torch.float32
    state = torch.random.get_rng_state()
    assert same(batches(there), expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(batches(load(pets, cache=where, **options)), expected)  # a file is found again


def count_decoded(monkeypatch):
    decoded, original = [], ImageDecoder.__call__
    monkeypatch.setattr(ImageDecoder, "__call__", lambda self, path: decoded.append(path) or original(self, path))
    return decoded


def test_a_file_is_written_once_and_again_when_an_image_changes(pets, load, tmp_path, monkeypatch):
    decoded = count_decoded(monkeypatch)
    x = load(pets, cache="file").splits.train[0]
    assert len(decoded) == 53
    assert torch.equal(load(pets, cache="file", seed=8).splits.train[0], x)
    assert len(decoded) == 53
    (pets / "cat" / "001.png").write_bytes((pets / "owl" / "031.png").read_bytes() + b"\0")
    for options in ({}, {"channels": 1}, {"split_seed": 5}):
        before = len(decoded)
        read(load(pets, cache="file", **options))
        assert len(decoded) == before + 53
    assert Counter(path.suffix for path in (tmp_path / "cache").iterdir()) == {".npz": 4, ".bytes": 4}


def test_what_cannot_be_read_is_remembered_beside_the_file(pets, load, caplog):
    cut_short(pets / "dog" / "020.png")
    for _ in range(2):
        caplog.clear()
        read(load(pets, cache="file", on_error="skip"))
        assert "1 of 53 images cannot be read" in caplog.text
    with pytest.raises(ValueError, match=r"1 of 53 images cannot be read: .*dog/020.png"):
        read(load(pets, cache="file"))


@pytest.mark.parametrize("where", ["memory", "file"])
def test_splits_are_views_of_one_cache(pets, load, where):
    splits = load(pets, cache=where).splits
    assert len({x.untyped_storage().data_ptr() for x, _ in splits[:3]}) == 1
    assert splits.train[0].untyped_storage().nbytes() == 53 * 3 * HEIGHT * WIDTH


@pytest.mark.parametrize(
    ("memory", "disk", "decoded"), [(4 * 53 * 105, 0, 53), (4 * 53 * 105 - 4, 2 * 53 * 105, 53), (0, 53 * 105, 106)]
)
def test_auto_keeps_pixels_where_they_fit(pets, load, tmp_path, monkeypatch, memory, disk, decoded):
    monkeypatch.setattr(cache, "_memory", lambda: memory)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=disk))
    data = load(pets)
    loader = data.train_dataloader()
    assert isinstance(loader, DecodingLoader) == (disk == 53 * 105)
    assert (tmp_path / "cache").is_dir() == (disk == 2 * 53 * 105)
    assert len(data.splits.train[0]) == len(data.splits.train[1])
    assert decoded


def test_memory_is_what_the_machine_or_its_container_has():
    assert 2**28 < cache._memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_cache_that_cannot_be_written_is_one_line(pets, load, tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(ValueError, match=r"^cannot write the cache .*plain/cache/.*bytes: Not a directory; see cache"):
        read(load(pets, cache="file", cache_folder=str(tmp_path / "plain" / "cache")))


def test_device_resident_images_stay_bytes(pets, load):
    data = load(pets, device_resident=True)
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=0, world_size=1, overfit_batches=0
    )
    x, y = next(iter(data.train_dataloader()))
    assert (x.device.type, y.device.type, x.dtype) == ("meta", "meta", torch.uint8)


def test_device_resident_is_refused_where_nothing_is_kept(pets, load):
    with pytest.raises(ValueError, match=r"^device_resident needs cache=memory or cache=file"):
        load(pets, device_resident=True, cache="none").train_dataloader()


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
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(pets, load, tmp_path, where):
    options = {"cache": where, "batch_size": 13, "augmentation": Augmentation(crop=1, flip=True)}
    every_step = ModelCheckpoint(tmp_path / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(load(pets, **options), every_step)
    assert len(whole) == 6
    assert same([(x,) for x in whole], [(x,) for x in fit(load(pets, **options | {"cache": "memory"}))])
    for step in range(1, 6):
        rest = fit(load(pets, **options), every_step, checkpoint=tmp_path / "steps" / f"step={step}.ckpt")
        assert same([(x,) for x in rest], [(x,) for x in whole[step:]])


def test_a_decoding_loader_keeps_the_position_and_starts_a_broken_off_pass_afresh(pets, load):
    loader = load(pets, cache="none").train_dataloader()
    loader.set_epoch(1)
    first = [next(iter(loader))[1]]
    loader.set_epoch(2)
    whole = [y for _, y in loader]
    assert loader.state_dict() == {"epoch": 3, "batch": 0}
    again = load(pets, cache="none").train_dataloader()
    again.load_state_dict({"epoch": 2, "batch": 3})
    again.set_epoch(2)
    iterator = iter(again)
    assert torch.equal(next(iterator)[1], whole[3])
    assert again.state_dict() == {"epoch": 2, "batch": 4}
    assert len(again) == len(whole)
    assert not torch.equal(first[0], whole[0])


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_bytes_take_the_precision_of_the_trainer(pets, load, precision):
    dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}[precision]
    seen = fit(load(pets, augmentation=Augmentation(crop=1)), precision=precision)
    assert {x.dtype for x in seen} == {dtype}


# What a file holds


def decode(path, size=(HEIGHT, WIDTH), channels=3):
    return ImageDecoder(*size, channels)(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "webp", "tif", "ppm"])
def test_pixels_of_a_lossless_file_are_read_as_they_are(tmp_path, suffix):
    image = Image.fromarray(pixels(0))
    if suffix == "gif":
        image = image.quantize(256)
    image.save(tmp_path / f"x.{suffix}", **{"lossless": True} if suffix == "webp" else {})
    assert np.array_equal(decode(tmp_path / f"x.{suffix}"), pixels(0).transpose(2, 0, 1))


def test_a_jpeg_of_many_pixels_is_scaled_down_to_its_content(tmp_path):
    image = Image.new("RGB", (800, 800), (200, 40, 90))
    image.paste((10, 220, 30), (0, 0, 800, 400))
    image.save(tmp_path / "x.jpg", quality=95)
    found = decode(tmp_path / "x.jpg", (10, 10)).astype(int)
    assert np.abs(found[:, :4] - np.array([10, 220, 30])[:, None, None]).max() <= 6
    assert np.abs(found[:, 6:] - np.array([200, 40, 90])[:, None, None]).max() <= 6


def test_an_image_keeps_its_proportions_and_loses_its_sides(tmp_path):
    image = Image.new("RGB", (40, 10), "red")
    image.paste("blue", (15, 0, 25, 10))
    image.save(tmp_path / "wide.png")
    image.rotate(90, expand=True).save(tmp_path / "high.png")
    for name in ("wide", "high"):
        assert np.array_equal(decode(tmp_path / f"{name}.png", (10, 10)), np.full((3, 10, 10), 255) * BLUE)


BLUE = np.array([0, 0, 1])[:, None, None]


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(pixels(0)).save(tmp_path / "x.png", exif=exif)
    expected = np.rot90(pixels(0), k=-1).transpose(2, 0, 1)
    assert np.array_equal(decode(tmp_path / "x.png", (WIDTH, HEIGHT)), expected)


def test_grey_is_what_pillow_calls_luminance(tmp_path):
    Image.fromarray(pixels(0)).save(tmp_path / "x.png")
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(tmp_path / "x.png", channels=1)[0] - pixels(0) @ weights).max() <= 1


def test_16_bits_become_8(tmp_path):
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 1800
    Image.fromarray(values).save(tmp_path / "x.png")
    for channels in (1, 3):
        assert (decode(tmp_path / "x.png", channels=channels) == values >> 8).all()


@pytest.mark.parametrize("palette", [False, True])
def test_what_is_transparent_is_black(tmp_path, palette):
    image = Image.new("RGBA", (WIDTH, HEIGHT), (200, 100, 50, 255))
    ImageDraw.Draw(image).rectangle((0, 0, 2, HEIGHT), (255, 255, 255, 0))
    (image.quantize(4) if palette else image).save(tmp_path / "x.png")
    found = decode(tmp_path / "x.png")
    assert (found[:, :, :3] == 0).all()
    assert (found[:, :, 3:] == np.array([200, 100, 50])[:, None, None]).all()


# Refusals


def break_png(folder):
    cut_short(folder / "owl" / "040.png")
    return "owl/040.png"


def break_jpeg(folder):
    Image.fromarray(np.random.default_rng(0).integers(256, size=(90, 90, 3), dtype=np.uint8)).save(folder / "cat/x.jpg")
    cut_short(folder / "cat/x.jpg", 0.7)
    return "cat/x.jpg"


def break_gif(folder):
    Image.fromarray(pixels(0)).save(folder / "dog/x.gif")
    cut_short(folder / "dog/x.gif", 0.3)
    return "dog/x.gif"


def break_empty(folder):
    (folder / "dog/x.webp").touch()
    return "dog/x.webp"


def break_text(folder):
    (folder / "dog/x.bmp").write_text("not a picture")
    return "dog/x.bmp"


def break_float(folder):
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(folder / "dog/x.tif")
    return "dog/x.tif"


BREAKS = [break_png, break_jpeg, break_gif, break_empty, break_text, break_float]


@pytest.mark.parametrize("damage", BREAKS)
def test_an_unreadable_image_is_named_in_one_line_or_left_out(pets, load, caplog, damage):
    name = damage(pets)
    total = sum(COUNTS.values()) + (damage is not break_png)
    with pytest.raises(
        ValueError, match=rf"^1 of {total} images cannot be read: \S*{name} \(.*on_error=skip"
    ) as refusal:
        read(load(pets))
    assert "\n" not in str(refusal.value)
    splits = load(pets, on_error="skip").splits
    assert sum(len(y) for _, y in splits[:3]) == total - 1
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"1 of {total} images cannot be read: {pets / name}" in record.getMessage()
    for x, y in splits[:3]:
        assert [(number >= 13) + (number >= 30) for number in numbers(x)] == y.tolist()


def test_of_many_unreadable_images_three_are_named(pets, load):
    for number in range(5):
        (pets / "cat" / f"{number:03}.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^5 of 53 images cannot be read: (\S+ \(not an image\); ){3}and 2 more;"):
        read(load(pets))


def test_skipping_must_leave_something(pets, load):
    for path in (pets / "cat").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="pets, class 'cat': no image to train on can be read"):
        read(load(pets, on_error="skip"))


@pytest.mark.parametrize("where", ["memory", "file", "none"])
def test_no_image_at_all_that_can_be_read_is_one_line(pets, load, where):
    for path in pets.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="pets: no image of the train split can be read"):
        read(load(pets, on_error="skip", cache=where))


def test_predictions_are_in_the_order_of_names_and_lack_none(pets, load, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    for name, number in (("b", 110), ("a10", 111), ("a2", 112), ("C", 113)):
        Image.fromarray(pixels(number)).save(new / f"{name}.png")
    data = load(pets, predict_path=str(new))
    (x,) = data.splits.predict
    assert numbers(x) == [113, 111, 112, 110]
    assert [len(batch) for batch in data.predict_dataloader()] == [1]

    cut_short(new / "a2.png")
    with pytest.raises(ValueError, match=r"^1 of 4 images cannot be read: \S*new/a2.png \([^;]*$"):
        read(load(pets, predict_path=str(new), on_error="skip"))
    with pytest.raises(FileNotFoundError, match=r"^no folder .*nowhere$"):
        read(load(pets, predict_path=str(tmp_path / "nowhere")))


def remove(*names):
    def change(root):
        for name in names:
            (root / name).unlink()

    return change


def own(**parts):
    def change(root):
        for name in COUNTS:
            for path in (root / name).iterdir():
                path.unlink()
            (root / name).rmdir()
        for part, classes in parts.items():
            (root / part).mkdir()
            write(root / part, dict.fromkeys(classes, 5), 10 * len(part))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "emu").mkdir(), r"emu: no images \(\.jpg, .*\)"),
        (lambda root: [path.rename(root / path.name) for path in root.glob("*/*.png")], "cat: no images"),
        (own(), "no folders; images lie in a folder for each class"),
        (own(cat=[]), "cat: no images"),
        (own(train=["a", "b"], test=["a", "c"]), "class 'c' of the test split has nothing to train on"),
        (own(train=["a", "b"], val=["z"]), "class 'z' of the validation split has nothing to train on"),
        (own(train=["a"], test=["a"]), "one class only, 'a'"),
        (
            own(train=["a", "b"], test=["a"], extra=["a"]),
            "either folders of classes, or train, val and test, not extra",
        ),
        (own(train=["a", "b"], val=["a"], valid=["a"]), "either folders of .* not train, val, valid"),
        (own(train=["a", "b"], test=[]), "test: no folders"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_one_line(pets, load, change, message):
    change(pets)
    with pytest.raises(ValueError, match=message) as refusal:
        read(load(pets))
    assert str(refusal.value).startswith(str(pets))
    assert "\n" not in str(refusal.value)


def test_a_class_of_too_few_images_is_named(tmp_path, load):
    write(tmp_path / "few", {"a": 9, "b": 2})
    with pytest.raises(ValueError, match="few, class 'b': 1 rows are too few for 2 splits"):
        read(load(tmp_path / "few"))


@pytest.mark.parametrize("path", ["nowhere", "plain.png"])
def test_no_folder_is_one_line(tmp_path, load, path):
    (tmp_path / "plain.png").touch()
    with pytest.raises(FileNotFoundError, match=f"^no folder .*{path}$"):
        _ = load(tmp_path / path).class_names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0; it is the side of a square, or"),
        ({"image_size": [3]}, r"image_size is \[3\]"),
        ({"image_size": [3, -1]}, r"image_size is \[3, -1\]"),
        ({"channels": 4}, r"channels must be 1 \(grey\) or 3 \(colour\), not 4"),
        ({"on_error": "skp"}, "unknown treatment of errors 'skp'; did you mean 'skip'"),
        ({"cache": "memroy"}, "unknown cache 'memroy'; did you mean 'memory'"),
        ({"test_share": 1.0}, "test_share must lie between 0 and 1, not 1.0"),
        ({"validation_share": 0.0}, "validation_share must lie between 0 and 1, not 0.0"),
        ({"augmentation": Augmentation(crop=5)}, "augmentation: crop 5 is too much for images of 5 x 7"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ],
)
def test_arguments_are_checked_at_once(load, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        load("nowhere", **options)


RECIPE = """
model: {class_path: unvanish.MLP, hidden_sizes: [11]}
data: {class_path: unvanish.data.image_folder.ImageFolder, image_size: 5, batch_size: 6}
trainer: {max_epochs: 2}
"""


def test_the_commands_train_and_predict(pets, workplace, capsys):
    (workplace / "pets.yaml").write_text(RECIPE)
    write(workplace / "new", {"": 3}, 100)
    words = ["-c", "pets.yaml", f"--data.path={pets}"]
    assert main(["fit", *words, "--data.image_size=[5,7]", "--data.augmentation.flip=true", "--data.cache=file"]) == 0
    assert "images of 3 classes, 38 train, 4 validation, 11 test" in capsys.readouterr().out
    run = "runs/pets/1/config.yaml"
    assert main(["test", "-c", run]) == 0
    assert main(["predict", "-c", run, f"--data.predict_path={workplace / 'new'}"]) == 0
    table = pd.read_csv("runs/pets/1/predictions.csv")
    assert list(table["row"]) == [0, 1, 2]
    assert list(table.columns[2:]) == ["probability_cat", "probability_dog", "probability_owl"]


def test_the_commands_answer_in_one_line(pets, workplace, capsys):
    (workplace / "pets.yaml").write_text(RECIPE)
    cut_short(pets / "dog" / "020.png")
    for words, message in (
        ([], "path is missing: the folder that holds a folder of images for each class"),
        (["--data.path=nowhere"], "no folder nowhere"),
        ([f"--data.path={pets}"], "1 of 53 images cannot be read"),
        ([f"--data.path={pets}", "--data.image_size=big"], "data.image_size is 'big', expected"),
    ):
        assert main(["fit", "-c", "pets.yaml", *words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0]
    assert not (workplace / "runs").exists()
