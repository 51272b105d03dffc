"""The data of a case as tensors: generated, from scikit-learn, from a folder, or from others' repositories."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from torch import Tensor

from benchmarks.faults.cases import Facts, NotHereError, at
from benchmarks.faults.files import cifar10, git_file, mnist

Array = NDArray[Any]
Parts = list[Array]


class Data(NamedTuple):
    """Samples to learn from and to measure on; labels one-hot, (n, classes)."""

    x: Tensor
    y: Tensor
    x_valid: Tensor
    y_valid: Tensor


def data_of(case: Facts, seed: int, root: Path) -> Data:
    """The data of a case.

    Raises:
        NotHereError: they are not at hand.
    """
    facts, run = case["data"], case.get("run_here") or {}
    kind = facts["kind"]
    if kind == "not_here":
        raise NotHereError("its data are not public")
    if kind not in _KINDS:
        raise ValueError(f"no data are called {kind}")
    parts = _KINDS[kind](facts, run, seed, root)
    as_ids = facts.get("integer_input", False)
    types = (torch.int64 if as_ids else torch.float32, torch.float32)
    x, y, xv, yv = (torch.as_tensor(np.ascontiguousarray(p)).to(types[i % 2]) for i, p in enumerate(parts))
    return Data(x, y, xv, yv)


def scaled(x: Array, how: str | float | None) -> Array:
    """Inputs (n, ...) under the scaling of that name, or divided by a number."""
    if how is None or how == "none":
        return x
    if not isinstance(how, str):
        return x / how
    if how not in _SCALINGS:
        raise ValueError(f"no scaling is called {how}")
    return _SCALINGS[how](x)


def _min_max(x: Array, axis: int | None = None, twice: bool = False) -> Array:
    span = np.asarray(x.max(axis) - x.min(axis))
    span = np.where(span == 0, 1e-7, span)
    scaled_so: Array = (x - x.min(axis)) / (span**2 if twice else span)
    return scaled_so


def _by_channel(x: Array) -> Array:
    mean, std = np.array([[125.307, 122.95, 113.865], [62.9932, 62.0887, 66.7048]], np.float32)[:, None, :, None, None]
    channels: Array = (x - mean) / std
    return channels


_SCALINGS: dict[str, Callable[[Array], Array]] = {
    "divide_255": lambda x: x / 255,
    "min_max": _min_max,
    "min_max_features": lambda x: _min_max(x, 0),
    "double_min_max": lambda x: _min_max(x, twice=True),
    "double_min_max_features": lambda x: _min_max(x, 0, twice=True),
    "standard_features": lambda x: (x - x.mean(0)) / (x.std(0) + 1e-12),
    "mnist_mean_std": lambda x: (x / 255 - 0.1307) / 0.3081,
    "channel_mean_std": _by_channel,
}


def one_hot(y: Array, classes: int) -> Array:
    """Labels (n,) as (n, classes)."""
    rows: Array = np.eye(classes, dtype=np.float32)[np.asarray(y).astype(int)]
    return rows


def _cut(x: Array, y: Array, count: int) -> Parts:
    return [x[:count], y[:count], x[count:], y[count:]]


def _circle(facts: Facts, _: Facts, seed: int, __: Path) -> Parts:
    state, factor = facts.get("random_state", seed), facts.get("factor", 0.8)
    x, y = datasets.make_circles(n_samples=facts["n"], noise=facts["noise"], random_state=state, factor=factor)
    return _cut(scaled(x, facts.get("scaling")), y[:, None], facts["train"])


def _moons(facts: Facts, _: Facts, seed: int, __: Path) -> Parts:
    state = facts.get("random_state", seed)
    x, y = datasets.make_moons(n_samples=facts["n"], noise=facts["noise"], random_state=state)
    return _cut(scaled(x, facts.get("scaling")), y[:, None], facts["train"])


def _blob(facts: Facts, _: Facts, seed: int, __: Path) -> Parts:
    x, y = datasets.make_blobs(
        n_samples=facts["n"],
        centers=facts["centers"],
        n_features=facts["features"],
        cluster_std=facts["cluster_std"],
        random_state=facts.get("random_state", seed),
    )
    return _cut(scaled(x, facts.get("scaling")), one_hot(y, facts["centers"]), facts["train"])


def _table(facts: Facts, run: Facts, seed: int, _: Path) -> Parts:
    """A small set of scikit-learn in an order of its own, a quarter of it to measure on."""
    bunch = getattr(datasets, f"load_{facts['kind']}")()
    x, y = np.asarray(bunch.data, np.float64), np.asarray(bunch.target)
    if facts["kind"] == "diabetes":
        y = y[:, None].astype(float)
        y = (y - y.mean()) / y.std() if facts.get("target_scaling", True) else y
    else:
        y = y[:, None] if len(bunch.target_names) == 2 else one_hot(y, len(bunch.target_names))
    x = scaled(x, facts.get("scaling"))
    order = np.random.RandomState(0).permutation(len(x))
    x, xv, y, yv = (part for whole in (x, y) for part in np.split(whole[order], [3 * len(x) // 4]))
    kept = run.get("train_samples", len(x))
    x, y = x[:kept], y[:kept]
    if facts.get("shuffled_features"):
        x = x[np.random.RandomState(seed).permutation(len(x))]
    shape = (-1, 1, 8, 8) if facts.get("as_image") else (-1, 8, 8) if facts.get("as_sequence") else x.shape
    return [x.reshape(-1, *shape[1:]), y, xv.reshape(-1, *shape[1:]), yv]


def _images(facts: Facts, run: Facts, seed: int, root: Path) -> Parts:
    if facts["kind"] == "cifar_like":
        x, y, xv, yv = *_textures(run.get("train_samples", 4000), 1), *_textures(1000, 2)
    else:
        x, y, xv, yv = (mnist if facts["kind"] == "mnist" else cifar10)(root)
    if facts.get("unbalanced"):
        kept = _unbalanced(y)
        x, y = x[kept], y[kept]
    order = np.random.RandomState(0).permutation(len(x))[: run.get("train_samples", len(x))]
    x, y = x[order].astype(np.float32), y[order]
    order = np.random.RandomState(1).permutation(len(xv))[: run.get("validation_samples", 1000)]
    xv, yv = xv[order].astype(np.float32), yv[order]
    x, xv = scaled(x, facts.get("scaling")), scaled(xv, facts.get("validation_scaling", facts.get("scaling")))
    if facts.get("constant_label") is not None:
        y = np.full_like(y, facts["constant_label"])
    if facts.get("flatten"):
        x, xv = x.reshape(len(x), -1), xv.reshape(len(xv), -1)
    if facts.get("as_sequence"):
        x, xv = x[:, 0], xv[:, 0]
    if facts.get("shuffled_features"):
        x = x[np.random.RandomState(seed).permutation(len(x))]
    if facts.get("binary_class") is not None:
        labels = [(part == facts["binary_class"])[:, None] for part in (y, yv)]
    elif facts.get("label_kind") == "integer_regression":
        labels = [part[:, None] for part in (y, yv)]
    else:
        labels = [one_hot(part, 10) for part in (y, yv)]
    return [x, labels[0], xv, labels[1]]


def _unbalanced(y: Array) -> Array:
    """Of the first six classes a few percent of what there would be, and all of the others."""
    kept = []
    for digit in range(10):
        where = np.flatnonzero(y == digit)
        kept.append(where[: int(len(y) // 10 * 0.01 * max(digit, 1))] if digit <= 5 else where)
    return np.concatenate(kept)


def _textures(count: int, seed: int) -> tuple[Array, Array]:
    """Ten classes of images (3, 32, 32), a wave of its own in each channel, its phase and contrast at random."""
    random = np.random.RandomState(1234)
    waves, phases = random.uniform(0.5, 4, (2, 10, 3, 1, 1)), random.uniform(0, 2 * np.pi, (10, 3, 1, 1))
    random = np.random.RandomState(seed)
    y = random.randint(0, 10, count)
    rows = np.arange(32)[:, None] / 32 * 2 * np.pi
    shift = random.uniform(0, 3.2, (count, 1, 1, 1))
    pattern = np.sin(waves[0, y] * rows.T + waves[1, y] * rows + phases[y] + shift)
    x = 127.5 + 50 * pattern * random.uniform(0.4, 1, (count, 1, 1, 1)) + 40 * random.randn(count, 3, 32, 32)
    return x.clip(0, 255).astype(np.float32), y


def _auto_mpg(facts: Facts, _: Facts, seed: int, __: Path) -> Parts:
    lines = git_file("thedeepchecker+thedeepchecker", "data/auto-mpg.csv").splitlines()[1:]
    table = np.array([[float(cell) for cell in line.split(",")] for line in lines if line.strip()])
    table = table[np.random.RandomState(0).permutation(len(table))]
    x, y = table[:, 1:], table[:, :1] * facts.get("target_factor", 1)
    low, high = facts.get("target_range", (0, 1))
    parts = _cut(x, y, int(0.8 * len(table)))
    for index in (0, 2):  # each part by its own numbers, as the program does
        parts[index] = scaled(parts[index], facts.get("scaling"))
        if facts.get("target_scaling", True):
            parts[index + 1] = low + _min_max(parts[index + 1]) * (high - low)
    if facts.get("shuffled_features"):
        parts[0] = parts[0][np.random.RandomState(seed).permutation(len(parts[0]))]
    return parts


def _csv(facts: Facts, *_: Any) -> Parts:
    lines = git_file(facts["repo"], facts["path"]).splitlines()[facts.get("skip_rows", 0) :]
    cells = [line.split(",") for line in lines if line.strip(" ,")]
    x, y = (np.array([[float(row[i]) for i in facts[name]] for row in cells]) for name in ("x_columns", "y_columns"))
    y = (y != 0).astype(float) if facts.get("binary") else y
    x = scaled(x, facts.get("scaling"))
    order = np.random.RandomState(0).permutation(len(x))
    x, y = x[order], y[order]
    return _cut(x, y, int(len(x) * facts["split"])) if facts.get("split") else [x, y, x, y]


def _inline(facts: Facts, *_: Any) -> Parts:
    x, y = np.array(facts["x"], np.float64), np.array(facts["y"], np.float64)
    x, y = (np.concatenate([part] * facts.get("tile", 1)) for part in (x, y))
    x = scaled(x, facts.get("scaling"))
    return [x, y, x, y]


def _formula(facts: Facts, _: Facts, seed: int, __: Path) -> Parts:
    state = at(facts, "random_state")
    names: dict[str, Any] = {"np": np, "sk": datasets, "r": np.random.RandomState(seed if state is None else state)}
    exec(facts["code"], names)  # a case is a program; whoever runs cases of others runs their code
    x, y = names["x"], names["y"]
    how = facts.get("scaling")
    return [scaled(x, how), y, scaled(names.get("xv", x), how), names.get("yv", y)]


_KINDS: dict[str, Callable[[Facts, Facts, int, Path], Parts]] = {
    "circle": _circle,
    "moons": _moons,
    "blob": _blob,
    **dict.fromkeys(("digits", "breast_cancer", "wine", "diabetes", "iris"), _table),
    **dict.fromkeys(("mnist", "cifar10", "cifar_like"), _images),
    "auto_mpg": _auto_mpg,
    "csv": _csv,
    "inline": _inline,
    "formula": _formula,
}
