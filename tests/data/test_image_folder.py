import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pictures import COUNTS, HEIGHT, WIDTH, cut_short, numbers, pixels, read, write
from PIL import Image

from unvanish.command.main import main
from unvanish.data.augmentation import Augmentation


def test_every_image_is_in_one_split_with_its_class_s_share_and_its_pixels(pets, image_folder):
    data = image_folder(pets, validation_share=0.25, test_share=0.2)
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


def test_no_image_validates_where_the_share_is_0_and_there_is_no_folder(pets, tmp_path, image_folder):
    data = image_folder(pets, validation_share=0)
    train, validation, test = data.splits[:3]
    assert (len(train[1]) + len(test[1]), validation) == (53, ())
    assert data.val_dataloader() == []


def test_the_test_split_depends_on_the_split_seed_alone(pets, image_folder):
    def tested(**options):
        return set(numbers(image_folder(pets, **options).splits.test[0]))

    assert tested() == tested(validation_share=0.5, seed=3)
    assert tested() != tested(split_seed=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_normalised_by_the_training_split_on_their_way(pets, image_folder, channels):
    data = image_folder(pets, channels=channels)
    train, validation = (split[0].double() for split in data.splits[:2])
    mean, std = train.mean(dim=(0, 2, 3)), train.std(dim=(0, 2, 3), correction=0)
    for batch, plain in zip(data.val_dataloader(), validation.split(6), strict=True):
        x, y = data.on_after_batch_transfer(batch, 0)
        assert (x.dtype, x.shape[1:]) == (torch.float32, (channels, HEIGHT, WIDTH))
        expected = (plain - mean[:, None, None]) / std[:, None, None]
        assert torch.allclose(x.double(), expected, atol=1e-5)
        assert y is batch[1]


def test_two_classes_are_a_binary_task(tmp_path, image_folder):
    write(tmp_path / "two", {"ham": 9, "egg": 11})
    data = image_folder(tmp_path / "two")
    assert (data.task, data.output_size, data.class_names) == ("binary", 1, ["egg", "ham"])
    for x, y in data.splits[:3]:
        assert y.dtype == torch.float32
        assert y.tolist() == [float(number < 9) for number in numbers(x)]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_own_splits_stay_whole(tmp_path, image_folder, name):
    root = tmp_path / "own"
    train = write(root / "train", {"a": 11, "b": 13})
    validation = write(root / name, {"a": 3, "b": 2}, 100)
    test = write(root / "test", {"b": 5}, 150)  # it need not show every class
    for (x, y), written in zip(image_folder(root).splits[:3], (train, validation, test), strict=True):
        offset = min(written)
        classes = {offset: int(offset == 150)} | written if offset < 150 else dict.fromkeys(written, 1)
        assert dict(zip(numbers(x), y.int().tolist(), strict=True)) == classes


@pytest.mark.parametrize(("given", "sizes"), [("test", [22, 2, 5]), ("val", [19, 5, 5]), (None, [17, 2, 5])])
def test_an_absent_split_is_cut_from_train(tmp_path, image_folder, given, sizes):
    root = tmp_path / "some"
    train = write(root / "train", {"a": 11, "b": 13})
    if given:
        write(root / given, {"a": 3, "b": 2}, 100)
    found = [numbers(x) for x, _ in image_folder(root, test_share=0.2).splits[:3]]
    assert [len(part) for part in found] == sizes
    assert sorted(number for part in found for number in part if number < 100) == sorted(train)


def test_train_can_be_a_class_beside_others(tmp_path, image_folder):
    write(tmp_path / "vehicles", {"bus": 7, "train": 7})
    assert image_folder(tmp_path / "vehicles").class_names == ["bus", "train"]


def test_hidden_files_and_folders_and_other_kinds_of_file_are_left_alone(pets, image_folder):
    (pets / ".ipynb_checkpoints").mkdir()
    (pets / "README.txt").write_text("pets")
    (pets / "cat" / "._000.png").write_bytes(b"\0\5\26\7")
    (pets / "cat" / "Thumbs.db").write_bytes(b"x")
    data = image_folder(pets)
    assert data.class_names == ["cat", "dog", "owl"]
    assert sum(len(y) for _, y in data.splits[:3]) == 53


def test_images_lie_at_any_depth_with_any_case_of_suffix(tmp_path, image_folder):
    write(tmp_path / "deep", {"a": 7, "b": 7})
    (tmp_path / "deep/a/2024/may").mkdir(parents=True)
    (tmp_path / "deep/a/000.png").rename(tmp_path / "deep/a/2024/may/000.PNG")
    assert sum(len(y) for _, y in image_folder(tmp_path / "deep").splits[:3]) == 14


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
def test_an_unreadable_image_is_named_in_one_line_or_left_out(pets, image_folder, caplog, damage):
    name = damage(pets)
    total = sum(COUNTS.values()) + (damage is not break_png)
    with pytest.raises(
        ValueError, match=rf"^1 of {total} images cannot be read: \S*{name} \(.*on_error=skip"
    ) as refusal:
        read(image_folder(pets))
    assert "\n" not in str(refusal.value)
    splits = image_folder(pets, on_error="skip").splits
    assert sum(len(y) for _, y in splits[:3]) == total - 1
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"1 of {total} images cannot be read: {pets / name}" in record.getMessage()
    for x, y in splits[:3]:
        assert [(number >= 13) + (number >= 30) for number in numbers(x)] == y.tolist()


def test_of_many_unreadable_images_three_are_named(pets, image_folder):
    for number in range(5):
        (pets / "cat" / f"{number:03}.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^5 of 53 images cannot be read: (\S+ \(not an image\); ){3}and 2 more;"):
        read(image_folder(pets))


def test_skipping_must_leave_something(pets, image_folder):
    for path in (pets / "cat").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="pets, class 'cat': no image to train on can be read"):
        read(image_folder(pets, on_error="skip"))


@pytest.mark.parametrize("where", ["memory", "file"])
def test_no_image_at_all_that_can_be_read_is_one_line(pets, image_folder, where):
    for path in pets.rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(ValueError, match="pets: no image of the train split can be read"):
        read(image_folder(pets, on_error="skip", cache=where))


def test_predictions_are_in_the_order_of_names_and_lack_none(pets, image_folder, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    for name, number in (("b", 110), ("a10", 111), ("a2", 112), ("C", 113)):
        Image.fromarray(pixels(number)).save(new / f"{name}.png")
    data = image_folder(pets, predict_path=str(new))
    (x,) = data.splits.predict
    assert numbers(x) == [113, 111, 112, 110]
    assert [len(batch) for batch in data.predict_dataloader()] == [1]

    cut_short(new / "a2.png")
    with pytest.raises(ValueError, match=r"^1 of 4 images cannot be read: \S*new/a2.png \([^;]*$"):
        read(image_folder(pets, predict_path=str(new), on_error="skip"))
    with pytest.raises(FileNotFoundError, match=r"^no folder .*nowhere$"):
        read(image_folder(pets, predict_path=str(tmp_path / "nowhere")))


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
        (own(), "no folders; put the images of each class in a folder of its own"),
        (own(cat=[]), "cat: no images"),
        (own(train=["a", "b"], test=["a", "c"]), "class 'c' of the test split has nothing to train on"),
        (own(train=["a", "b"], val=["z"]), "class 'z' of the validation split has nothing to train on"),
        (own(train=["a"], test=["a"]), "only one class, 'a'"),
        (
            own(train=["a", "b"], test=["a"], extra=["a"]),
            "either folders of classes, or train, val and test, not extra",
        ),
        (own(train=["a", "b"], val=["a"], valid=["a"]), "either folders of .* not train, val, valid"),
        (own(train=["a", "b"], test=[]), "test: no folders"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_one_line(pets, image_folder, change, message):
    change(pets)
    with pytest.raises(ValueError, match=message) as refusal:
        read(image_folder(pets))
    assert str(refusal.value).startswith(str(pets))
    assert "\n" not in str(refusal.value)


def test_a_class_of_too_few_images_is_named(tmp_path, image_folder):
    write(tmp_path / "few", {"a": 9, "b": 2})
    with pytest.raises(ValueError, match="few, class 'b': 1 rows are too few for 2 splits"):
        read(image_folder(tmp_path / "few"))


@pytest.mark.parametrize("path", ["nowhere", "plain.png"])
def test_no_folder_is_one_line(tmp_path, image_folder, path):
    (tmp_path / "plain.png").touch()
    with pytest.raises(FileNotFoundError, match=f"^no folder .*{path}$"):
        _ = image_folder(tmp_path / path).class_names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0; it is the side of a square, or"),
        ({"image_size": [3]}, r"image_size is \[3\]"),
        ({"image_size": [3, -1]}, r"image_size is \[3, -1\]"),
        ({"channels": 4}, r"channels must be 1 \(grey\) or 3 \(colour\), not 4"),
        ({"on_error": "skp"}, "unknown treatment of errors 'skp'; did you mean 'skip'"),
        ({"cache": "memroy"}, "unknown cache 'memroy'; did you mean 'memory'"),
        ({"test_share": 1.0}, "test_share must be above 0 and below 1 - validation_share, not 1.0"),
        ({"validation_share": -0.1}, "validation_share must be at least 0 and below 1, not -0.1"),
        ({"augmentation": Augmentation(crop=5)}, "augmentation: crop 5 is too large for images of 5 x 7"),
    ],
)
def test_arguments_are_checked_at_once(image_folder, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        image_folder("nowhere", **options)


RECIPE = """
model: {class_path: unvanish.MLP, hidden_sizes: [11]}
data: {class_path: unvanish.data.folders.ImageFolder, image_size: 5, loading: {batch_size: 6}}
trainer: {max_epochs: 2}
"""


@pytest.mark.slow
def test_the_commands_train_and_predict(pets, workplace, capsys):
    (workplace / "pets.yaml").write_text(RECIPE)
    write(workplace / "new", {"": 3}, 100)
    words = ["-c", "pets.yaml", f"--data.path={pets}"]
    assert main(["diagnose", *words, "--data.image_size=[5,7]"]) == 0
    assert "hidden.0.linear" in capsys.readouterr().out
    assert (
        main(
            [
                "fit",
                *words,
                "--data.image_size=[5,7]",
                "--data.augmentation.flip=true",
                "--data.cache=file",
                "--data.cache_folder=cache",
            ]
        )
        == 0
    )
    assert "images of 3 classes, 38 train, 4 validation, 11 test" in capsys.readouterr().out
    run = "runs/pets/1/config.yaml"
    assert main(["test", "-c", run]) == 0
    shown = re.search(r"test/accuracy +([\d.]+)", capsys.readouterr().out)
    assert main(["predict", "-c", run]) == 0
    table = pd.read_csv("runs/pets/1/predictions.csv")
    right = [
        Path(row).parent.name == prediction for row, prediction in zip(table["row"], table["prediction"], strict=True)
    ]
    assert f"{sum(right) / 11:.4f}" == shown[1]
    assert main(["predict", "-c", run, f"--data.predict_path={workplace / 'new'}"]) == 0
    table = pd.read_csv("runs/pets/1/predictions.csv")
    assert list(table["row"]) == sorted(map(str, (workplace / "new").iterdir()))
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
