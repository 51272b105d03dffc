"""Arrays that stay in their files."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from build import build

from unvanish.data import ArrayFolder, BatchLoader, FileRows
from unvanish.data.encoding import Known

ROWS = 211


@pytest.fixture
def folder(tmp_path):
    """x[n] begins with n."""
    rng = np.random.default_rng(3)
    x = rng.normal(5, 7, (ROWS, 3, 5)).astype(np.float32)
    x[:, 0, 0] = np.arange(ROWS)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(ROWS) % 3)
    return tmp_path


def on(rank, world_size):
    return SimpleNamespace(global_rank=rank, world_size=world_size, overfit_batches=0)


def numbers(loader):
    return [batch[0][:, 0, 0].int().tolist() for batch in loader]


def test_chosen_rows_of_a_file_are_those_of_the_array(tmp_path):
    array = np.arange(60, dtype=">f8").reshape(10, 2, 3)
    np.save(tmp_path / "a.npy", array)
    rows, tensor = FileRows.of_npy(tmp_path / "a.npy"), torch.from_numpy(array.astype(float))
    some = np.array([7, 0, 3])
    for found, expected in (
        (rows, tensor),
        (rows[3:9], tensor[3:9]),
        (rows[1::3][1:], tensor[1::3][1:]),
        (rows[5:5], tensor[5:5]),
        (rows[some], tensor[some]),
        (rows[2:][torch.from_numpy(some)], tensor[2:][some]),
        (rows[some][1:], tensor[some][1:]),
    ):
        assert len(found) == len(expected)
        assert found.shape == expected.shape
        assert torch.equal(found.read(), expected)
    assert torch.equal(rows.index_select(0, torch.tensor([4, 4])), tensor[[4, 4]])


def test_batches_are_those_of_the_same_rows_in_memory_and_each_is_seen_once_an_epoch_over_two_ranks(folder):
    data = build(ArrayFolder, str(folder), batch_size=7, scale=False)
    (x, y), memory = data.splits.train, torch.from_numpy(np.load(folder / "x.npy"))
    assert isinstance(x, FileRows)
    seen = []
    for rank in (0, 1):
        data.trainer = on(rank, 2)
        loader = data.train_dataloader()
        rows = memory[x.read()[:, 0, 0].long()]
        expected = BatchLoader((rows, y), 7, shuffle=True, seed=data.loading.seed, rank=rank, world_size=2)
        for batch, other in zip(loader, expected, strict=True):
            assert torch.equal(batch[0], other[0])
            assert torch.equal(batch[1], other[1])
            assert torch.equal(batch[1], batch[0][:, 0, 0].long() % 3)
        loader.load_state_dict({"epoch": 0, "batch": 0})
        seen += [number for batch in numbers(loader) for number in batch]
        seen += [
            number for split in (data.val_dataloader(), data.test_dataloader()) for b in numbers(split) for number in b
        ]
    assert len(x) % 2 == 0
    assert sorted(seen) == [*range(ROWS)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_no_more_than_a_batch_of_a_file_is_resident(tmp_path):
    """64 MiB, which an array that is mapped as a whole has in memory after an epoch."""
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (4096, 16384))
    program = """if True:
        import sys, numpy as np, torch
        from pathlib import Path
        from unvanish.data import BatchLoader, FileRows
        def resident():
            lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
            return sum(int(lines[name].split()[0]) for name in ("RssFile", "RssAnon"))
        def grown(x):
            most, before = 0, resident()
            for batch, _ in BatchLoader((x, torch.arange(len(x))), 64, shuffle=True):
                most = max(most, resident() - before)
            return most
        rows = FileRows.of_npy(Path(sys.argv[1]))
        rows[:64].read()
        mapped = torch.from_numpy(np.lib.format.open_memmap(sys.argv[1], mode="r+"))
        print(grown(rows), grown(mapped))
    """
    words = [sys.executable, "-c", program, str(tmp_path / "x.npy")]
    rows, mapped = map(int, subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    assert mapped > 60 * 1024
    assert rows < 16 * 1024


def test_features_are_scaled_by_rows_to_train_on_and_a_network_is_given_new_ones_in_the_same_way(folder):
    data = build(ArrayFolder, str(folder))
    x = data.splits.train[0]
    raw = torch.from_numpy(np.load(folder / "x.npy"))
    unscaled = build(ArrayFolder, str(folder), scale=False).splits.train[0].read()
    std, mean = torch.std_mean(unscaled.double(), dim=(0, 1), correction=0)
    assert torch.allclose(x.read(), ((unscaled - mean) / std).float(), atol=1e-5)
    again = Known.from_plain(data.known).encoding(raw.numpy()).x
    assert torch.allclose(again, ((raw - mean) / std).float(), atol=1e-5)


def test_images_are_scaled_by_channel(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, (50, 200), (40, 7, 5, 2), dtype=np.uint8).transpose(0, 3, 1, 2).copy())
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    data = build(ArrayFolder, str(tmp_path), batch_size=5)
    x = data.splits.train[0].read()
    assert (data.task, data.input_shape, data.output_size) == ("binary", (2, 7, 5), 1)
    assert x.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert x.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_targets_that_are_measured_are_standardised(folder):
    target = np.linspace(100, 300, ROWS)
    np.save(folder / "y.npy", target)
    data = build(ArrayFolder, str(folder), scale=False)
    x, y = data.splits.train
    assert (data.task, data.output_size) == ("regression", 1)
    assert [y.mean().item(), y.std(correction=0).item()] == pytest.approx([0, 1], abs=1e-5)
    assert data.in_units(y)[:, 0].numpy() == pytest.approx(target[x.read()[:, 0, 0].long()], rel=1e-5)


def test_what_cannot_be_used_is_refused_by_its_place(folder):
    def refusal(name, array):
        before = (folder / name).read_bytes()
        np.save(folder / name, array, allow_pickle=True)
        with pytest.raises(ValueError, match=name.partition(".")[0]) as caught:
            _ = build(ArrayFolder, str(folder)).splits
        (folder / name).write_bytes(before)
        return str(caught.value).removeprefix(f"{folder}/")

    x = np.load(folder / "x.npy")
    assert refusal("x.npy", x[:-1]).endswith("210 rows in x.npy and 211 in y.npy")
    assert "x.npy: object" in refusal("x.npy", x.astype(object)) or "Python objects" in refusal(
        "x.npy", x.astype(object)
    )
    assert refusal("x.npy", np.asfortranarray(x)).endswith("is not a C-contiguous array of numbers")
    assert refusal("x.npy", x[:, 0, 0]).endswith("has no axis besides that of its rows; reshape it to (N, 1)")
    train = build(ArrayFolder, str(folder), scale=False).splits.train[0].read()[:, 0, 0].int().tolist()
    late = np.where(np.arange(ROWS)[:, None, None] >= 100, np.nan, x)
    assert refusal("x.npy", late) == f"x.npy: row {min(n for n in train if n >= 100)} is not finite"
    assert refusal("y.npy", np.arange(ROWS) - 1).startswith("y.npy: whole numbers are classes, (N,) from 0")
    assert refusal("y.npy", np.zeros(ROWS, int)).startswith("y.npy: all rows are of class 0")
    assert (
        refusal("y.npy", np.where(np.arange(ROWS) < 2, np.nan, 1)) == "y.npy: row 0 is not finite, and 1 others are not"
    )
    (folder / "x.npy").write_bytes((folder / "x.npy").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"x\.npy: .*"):
        _ = build(ArrayFolder, str(folder)).splits
    (folder / "x.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"x\.npy: .*"):
        _ = build(ArrayFolder, str(folder)).splits
    with pytest.raises(FileNotFoundError):
        _ = build(ArrayFolder, str(folder / "absent")).splits
