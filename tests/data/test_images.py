import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from build import build
from sklearn.datasets import load_digits
from torchvision import datasets

from unvanish.data import Augmentation, Images
from unvanish.data.images import SOURCES

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_mnist = pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason=f"no MNIST in {SHARED}")


class FakeCifar:
    """Stands in for torchvision's class: image i of 70 (training) or 30 (test) is filled with i, 10 i and 100 i."""

    def __init__(self, root, train=True, download=False):
        folder = Path(root, "cifar")
        if download:
            folder.mkdir()
            (folder / "batch").touch()
        elif not (folder / "batch").exists():
            raise RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        rows = np.arange(70 if train else 30)
        self.data = np.multiply.outer(rows, np.broadcast_to([1, 10, 100], (32, 32, 3)))
        self.targets = (rows % 10).tolist()


@pytest.fixture
def cifar(monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    monkeypatch.setitem(SOURCES, "cifar10", replace(SOURCES["cifar10"], folder="cifar"))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "first", "last"),
    [
        ("digits", (1, 8, 8), 10, "0", "9"),
        ("mnist", (1, 28, 28), 10, "0", "9"),
        ("fashion_mnist", (1, 28, 28), 10, "t-shirt", "ankle_boot"),
        ("cifar10", (3, 32, 32), 10, "airplane", "truck"),
        ("cifar100", (3, 32, 32), 100, "apple", "worm"),
    ],
)
def test_the_description_needs_no_files(name, shape, classes, first, last):
    data = build(Images, name, root="nowhere")
    assert (data.task, data.input_shape, data.output_size) == ("multiclass", shape, classes)
    assert (len(data.class_names), data.class_names[0], data.class_names[-1]) == (classes, first, last)
    assert data.target_mean is data.target_std is None


def test_digits_are_split_completely_and_normalised_by_the_training_split():
    train, validation, test = Images().splits[:3]
    assert [len(y) for _, y in (train, validation, test)] == [1294, 144, 359]
    assert [x.dtype for x, _ in (train, validation, test)] == [torch.float32] * 3
    assert train[0].mean().item() == pytest.approx(0, abs=1e-6)
    assert train[0].std(correction=0).item() == pytest.approx(1, abs=1e-6)

    bunch = load_digits()
    x, y = (torch.cat(parts) for parts in zip(train, validation, test, strict=True))
    grey = (x - x.min()) / (x.max() - x.min()) * 16
    found = {(*image.flatten().round().int().tolist(), label) for image, label in zip(grey, y.tolist(), strict=True)}
    assert found == {
        (*map(int, image.ravel()), int(label)) for image, label in zip(bunch.images, bunch.target, strict=True)
    }


def test_the_test_split_of_digits_does_not_depend_on_the_validation_share():
    labels = [build(Images, validation_share=share).splits.test[1] for share in (0.1, 0.5)]
    assert torch.equal(*labels)


def test_images_are_made_smaller_by_averaging_and_then_normalised():
    small, whole = build(Images, image_size=4), build(Images, normalize=False)
    assert small.input_shape == (1, 4, 4)
    (x, y), (full, labels) = small.splits.train, whole.splits.train
    assert torch.equal(y, labels)
    assert x.shape == (1294, 1, 4, 4)
    assert x.mean().item() == pytest.approx(0, abs=1e-6)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    means = torch.stack([full[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(0)
    torch.testing.assert_close(x, (means - means.mean()) / means.std(correction=0))
    torch.testing.assert_close(small.splits.test[0].std(), x.std(), rtol=0.05, atol=0)  # they were made smaller as well


def test_pixels_that_are_not_normalised_are_from_0_to_1():
    grey = torch.from_numpy(load_digits().images).float() / 16
    x = torch.cat([split[0] for split in build(Images, normalize=False).splits[:3]]).squeeze(1)
    assert sorted(map(tuple, x.flatten(1).tolist())) == sorted(map(tuple, grey.flatten(1).tolist()))


def test_colours_that_are_not_normalised_are_from_0_to_1(cifar, tmp_path):
    data = build(Images, "cifar10", root=str(tmp_path), batch_size=10, normalize=False)
    data.prepare_data()
    assert torch.equal(data.splits.test[0][:, :, 0, 0], torch.tensor([[i, 10 * i, 100 * i] for i in range(30)]) / 255)


def test_all_rows_train_where_none_validate():
    data = build(Images, validation_share=0)
    train, validation, test = data.splits[:3]
    assert (len(train[1]), validation, len(test[1])) == (1438, (), 359)
    assert data.val_dataloader() == []
    torch.testing.assert_close(train[0].mean(), torch.tensor(0.0), rtol=0, atol=1e-6)


def test_splits_are_stratified():
    for _, y in Images().splits[:3]:
        assert (torch.bincount(y) / len(y)).sub(0.1).abs().max() < 0.01


def test_official_splits_are_downloaded_once_and_normalised_per_channel(cifar, tmp_path):
    data = build(Images, "cifar10", root=str(tmp_path / "new" / "root"), validation_share=0.2, batch_size=10)
    data.prepare_data()
    batch = tmp_path / "new" / "root" / "cifar" / "batch"
    written = batch.stat().st_mtime_ns
    data.prepare_data()
    assert batch.stat().st_mtime_ns == written

    (x, _), (x_validation, _), (x_test, y_test) = data.splits[:3]
    assert (x.shape, x_validation.shape, x_test.shape) == ((56, 3, 32, 32), (14, 3, 32, 32), (30, 3, 32, 32))
    assert torch.allclose(x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(x.std(dim=(0, 2, 3), correction=0), torch.ones(3))
    assert torch.allclose(x[:, 0], x[:, 2], atol=1e-5)
    assert y_test.tolist() == list(range(10)) * 3
    assert (x_test[:, 0, 0, 0].diff() > 0).all()


def test_of_two_processes_one_downloads(cifar, tmp_path, monkeypatch):
    """The second waits, and finds what the first has made."""
    downloads = []

    class Slow(FakeCifar):
        def __init__(self, root, train=True, download=False):
            downloads.append(root)
            time.sleep(0.2)
            super().__init__(root, train, download)

    monkeypatch.setattr(datasets, "CIFAR10", Slow)
    both = [Thread(target=build(Images, "cifar10", root=str(tmp_path)).prepare_data) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(downloads) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cifar"]


def test_what_another_machine_has_downloaded_meanwhile_stays(cifar, tmp_path, monkeypatch):
    class Overtaken(FakeCifar):
        def __init__(self, root, train=True, download=False):
            super().__init__(root, train, download)
            (tmp_path / "cifar").mkdir()
            (tmp_path / "cifar/theirs").touch()

    monkeypatch.setattr(datasets, "CIFAR10", Overtaken)
    build(Images, "cifar10", root=str(tmp_path)).prepare_data()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["cifar", "cifar/theirs"]


@needs_mnist
def test_mnist_keeps_its_official_test_split_in_order():
    data = build(Images, "mnist", root=str(SHARED))
    data.prepare_data()
    official, (x, y) = datasets.MNIST(SHARED, train=False), data.splits.test
    assert [len(split[1]) for split in data.splits[:3]] == [54000, 6000, 10000]
    assert torch.equal(y, official.targets)
    low, high = x.min(), x.max()
    assert torch.allclose((x[:, 0] - low) / (high - low) * 255, official.data.float(), atol=1e-3)
    assert (-low / (high - low)).item() == pytest.approx(0.1307, abs=1e-3)  # the mean that every MNIST tutorial uses


def test_a_failed_download_is_one_line_and_leaves_nothing_behind(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [])  # torchvision makes its folders, then finds no mirror to ask
    with pytest.raises(FileNotFoundError) as refusal:
        build(Images, "mnist", root=str(tmp_path / "root")).prepare_data()
    remedy = f"put its files into {tmp_path / 'root/MNIST/raw'}, or set root to the folder that holds MNIST/raw"
    assert str(refusal.value) == f"mnist could not be downloaded; {remedy}"
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_absent_files_are_one_line_and_leave_nothing_behind(name, tmp_path):
    data = build(Images, name, root=str(tmp_path / "root"))
    with pytest.raises(
        FileNotFoundError,
        match=f"^{name} is absent or incomplete; put .* into .*/root/{SOURCES[name].folder}, or set root",
    ):
        _ = data.splits
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "mnits"}, "unknown dataset 'mnits'; did you mean 'mnist'"),
        ({"validation_share": 1.0}, "validation_share must be at least 0 and below 1, not 1.0"),
        ({"validation_share": -0.1}, "validation_share must be at least 0 and below 1, not -0.1"),
        ({"image_size": 3}, "image_size is 3; it must divide 8, the side of the images of digits"),
        ({"image_size": 16}, "image_size is 16; it must divide 8, the side of the images of digits"),
        ({"image_size": 0}, "image_size is 0; it must divide 8, the side of the images of digits"),
        ({"dataset": "mnist", "image_size": 14, "augmentation": Augmentation(crop=14)}, "augmentation: crop 14 is too"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(Images, **options)


def test_device_resident_data_moves_to_the_device_of_the_trainer():
    data = build(Images, device_resident=True)
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=0, world_size=1, overfit_batches=0
    )
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert {tensor.device.type for tensor in next(iter(loader))} == {"meta"}
