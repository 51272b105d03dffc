import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from build import build

from unvanish.command.main import main
from unvanish.data.bundled_series import DATASETS
from unvanish.data.series import Series

ROWS, WINDOW, HORIZON = 101, 7, 3
TRAIN, VALIDATION, TEST = 60, 17, 24


def table(**columns):
    """A date, a column that tells its row by its value, and a wave, with columns replaced or added."""
    row = np.arange(ROWS)
    dates = pd.date_range("2020-01-31", periods=ROWS, freq="D").astype(str)
    return pd.DataFrame({"date": dates, "row": row**1.1, "wave": np.sin(row)} | columns)


def with_hole(values, *rows):
    column = pd.Series(values, dtype=float)
    column[list(rows)] = np.nan
    return column


@pytest.fixture
def save(tmp_path):
    def write(frame, name="rows.csv"):
        path = tmp_path / str(len(list(tmp_path.iterdir()))) / name  # data is read late: no file replaces another
        path.parent.mkdir()
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        return str(path)

    return write


@pytest.fixture
def load(save):
    def read(frame=None, name="rows.csv", **options):
        given = {"targets": ["row"], "window": WINDOW, "batch_size": 5, "validation_share": VALIDATION}
        path = save(table() if frame is None else frame, name)
        return build(Series, path=path, **given | {"test_share": TEST} | options)

    return read


def targets_of(data, part):
    """y of a part in the units of its columns, (windows, horizon, targets); of changes if relative."""
    y = data.splits[part][1].double() * data.target_std + data.target_mean
    return y.reshape(len(y), data.horizon, -1).numpy()


def steps_of(data):
    """For each part, which rows of `table` its windows ask for, told by the column ``row``."""
    return [np.rint(targets_of(data, part)[:, :, 0] ** (1 / 1.1)).astype(int) for part in range(3)]


def following(first, windows, horizon=HORIZON):
    """Rows (windows, horizon) that windows ask for of which the first asks for ``first``."""
    return first + np.arange(windows)[:, np.newaxis] + np.arange(horizon)


@pytest.mark.parametrize(
    ("name", "rows", "first", "last", "period"), [("sunspots", 309, 5.0, 2.9, 11), ("co2", 2284, 317.6, 371.5, 52)]
)
def test_bundled_series(name, rows, first, last, period):
    data = build(Series, name, window=13, validation_share=100, test_share=100)
    assert (data.task, data.input_shape, data.output_size, data.class_names) == ("regression", (13, 1), 1, None)
    assert data.seasonal_period == period
    x, y = next(iter(data.train_dataloader()))
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((32, 13, 1), (32, 1), torch.float32, torch.float32)
    # The first two windows of co2 end on a missing week.
    assert data.in_units(data.splits.train[0][0])[0].item() == pytest.approx(first)
    assert data.in_units(data.splits.predict[0][0])[-1].item() == pytest.approx(last)
    assert len(data.splits.test[1]) == 100
    if name == "sunspots":
        assert len(data.splits.train[1]) == rows - 200 - 13


@pytest.mark.parametrize("relative", [False, True])
def test_windows_are_slices_of_the_columns(load, relative):
    data = load(horizon=HORIZON, targets=["wave", "row"], relative=relative)
    raw = table()[["row", "wave"]].to_numpy()
    mean, std = (torch.from_numpy(value).float() for value in (raw[:TRAIN].mean(0), raw[:TRAIN].std(0)))
    ends = np.arange(WINDOW - 1, TRAIN - HORIZON)
    back = raw[ends[:, np.newaxis] - np.arange(WINDOW)] - raw[ends][:, np.newaxis]
    spread = torch.from_numpy(np.sqrt((back**2).mean(axis=(0, 1)))).float()
    assert (data.input_shape, data.output_size) == ((WINDOW, 2), 2 * HORIZON)
    starts = [0, TRAIN - WINDOW, TRAIN + VALIDATION - WINDOW]
    counts = [TRAIN - WINDOW - HORIZON + 1, VALIDATION - HORIZON + 1, TEST - HORIZON + 1]
    for part, start, count in zip(range(3), starts, counts, strict=True):
        x, answers = data.splits[part][0], targets_of(data, part)
        assert (x.shape, len(answers)) == ((count, WINDOW, 2), count)
        for i in range(count):
            window, after = np.split(raw[start + i : start + i + WINDOW + HORIZON], [WINDOW])
            if relative:
                window, after = window - window[-1], after - window[-1]
                assert torch.allclose(x[i] * spread, torch.tensor(window).float(), atol=1e-4)
            else:
                assert torch.allclose(x[i] * std + mean, torch.tensor(window).float(), atol=1e-4)
            assert np.allclose(answers[i], after[:, ::-1], atol=1e-4)


def test_relative_windows_and_changes_have_unit_scale_and_other_features_keep_their_level(load):
    data = load(horizon=HORIZON, relative=True)
    x, y = data.splits.train
    assert data.input_shape == (WINDOW, 2)
    assert x[:, :, 0].square().mean().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(y.mean(0), torch.zeros(HORIZON), atol=1e-5)
    assert torch.allclose(y.std(0, correction=0), torch.ones(HORIZON), atol=1e-5)
    wave = np.sin(np.arange(ROWS))
    assert x[5, :, 1].tolist() == pytest.approx((wave[5 : 5 + WINDOW] - wave[:TRAIN].mean()) / wave[:TRAIN].std())


def test_no_part_asks_for_a_row_of_another(load):
    parts = steps_of(load(horizon=HORIZON))
    assert np.array_equal(parts[0], following(WINDOW, TRAIN - WINDOW - HORIZON + 1))
    assert np.array_equal(parts[1], following(TRAIN, VALIDATION - HORIZON + 1))
    assert np.array_equal(parts[2], following(TRAIN + VALIDATION, TEST - HORIZON + 1))
    assert parts[0].max() < TRAIN
    assert parts[1].max() < TRAIN + VALIDATION


def test_shares_are_shares_of_the_rows(load):
    lengths = [len(rows) for rows in steps_of(load(validation_share=0.1, test_share=0.3))]
    assert lengths == [ROWS - 10 - 30 - WINDOW, 10, 30]


@pytest.mark.parametrize("relative", [False, True])
def test_what_comes_after_the_training_part_changes_nothing_in_it(load, relative):
    other = table()
    other.loc[TRAIN:, ["row", "wave"]] = 1000.0
    plain, changed = (load(frame, horizon=HORIZON, relative=relative) for frame in (table(), other))
    assert all(torch.equal(a, b) for a, b in zip(plain.splits.train, changed.splits.train, strict=True))
    assert torch.equal(plain.target_std, changed.target_std)
    assert not torch.equal(plain.splits.test[0], changed.splits.test[0])


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_a_constant_is_divided_by_one(load, slope):
    """Rounding: the mean of a column of 0.1 is not 0.1, and the steps of a line of slope 0.1 are not equal."""
    data = load(table(one=0.1, row=7.3 + slope * np.arange(ROWS)), relative=True)
    assert data.input_shape == (WINDOW, 3)
    assert data.splits.train[0][:, :, 2].abs().max() < 1e-6
    assert data.splits.test[1].abs().max() < 1e-6
    assert (data.target_mean.item(), data.target_std.item()) == (pytest.approx(slope), 1)


def test_the_order_of_features_is_theirs_and_targets_join_them(load):
    data = load(table(third=1.0, text="a", flag=np.arange(ROWS) % 2 == 0), features=["wave", "flag"])
    assert data.input_shape == (WINDOW, 3)
    wave, flag, row = data.splits.train[0][0].T
    assert (wave.diff().sign() == torch.from_numpy(np.sin(np.arange(WINDOW))).diff().sign()).all()
    assert torch.equal(flag.sign(), torch.tensor([1.0, -1, 1, -1, 1, -1, 1]))
    assert (row.diff() > 0).all()


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.parquet"])
def test_kinds_of_file_agree(load, name):
    for split, expected in zip(load(name=name).splits, load().splits, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(split, expected, strict=True))


def test_what_is_missing_is_interpolated_and_never_an_answer_or_a_last_input(load, caplog):
    holes = [0, 20, 21, 50, 90, ROWS - 1]
    with caplog.at_level(logging.INFO, "unvanish.data"):
        data = load(table(row=with_hole(np.arange(ROWS) * 2.0, *holes), wave=np.arange(ROWS) % 3), relative=False)
        _ = data.splits
    assert caplog.messages[0].endswith("rows.csv: missing values are interpolated in 'row' (6, row 1 first)")
    kept = [np.rint(targets_of(data, part)[:, 0, 0] / 2).astype(int).tolist() for part in range(3)]
    wanted = [row for row in range(WINDOW, ROWS) if row not in holes and row - 1 not in holes]
    assert kept[0] + kept[1] + kept[2] == wanted
    assert kept[1] == [row for row in wanted if TRAIN <= row < TRAIN + VALIDATION]
    assert caplog.messages[1].endswith(
        f"rows.csv: {ROWS - WINDOW - len(wanted)} windows that end with a missing value or have one "
        "to forecast are left out"
    )
    mean, std = data.target_mean.item(), data.target_std.item()
    assert mean == pytest.approx(np.delete(np.arange(TRAIN) * 2.0, holes[:4]).mean())
    rows = [(data.splits.train[0][i, :, 0] * std + mean).tolist() for i in (0, kept[0].index(24))]
    assert rows[0] == pytest.approx([2, 2, 4, 6, 8, 10, 12], abs=1e-4)
    assert rows[1] == pytest.approx(np.arange(17, 24) * 2.0, abs=1e-4)
    assert (data.splits.predict[0][0, -2:, 0] * std + mean).tolist() == pytest.approx([198, 198], abs=1e-3)


def test_a_gap_at_the_border_is_not_filled_by_the_next_part(load):
    """The last training rows are missing: nothing that trains may know of the first row that validates."""
    first, second = (
        load(table(row=with_hole([*np.arange(TRAIN) * 1.0, *np.full(ROWS - TRAIN, after)], *range(TRAIN - 4, TRAIN))))
        for after in (7.0, -9e3)
    )
    assert len(first.splits.train[0]) == TRAIN - WINDOW - 4
    assert all(torch.equal(a, b) for a, b in zip(first.splits.train, second.splits.train, strict=True))


@pytest.mark.parametrize("relative", [False, True])
def test_the_naive_error_of_a_line_is_its_slope_times_the_steps_and_a_wave_of_the_period_has_no_seasonal_one(
    load, relative
):
    row = np.arange(ROWS)
    line = load(table(row=row * 2.5), relative=relative, seasonal_period=4)
    assert line.baselines == {
        stage: {"rmse_naive": pytest.approx(2.5), "rmse_seasonal_naive": pytest.approx(4 * 2.5)}
        for stage in ("val", "test")
    }
    # Steps 1 to 4 are periods of 4 before, step 5 is two periods before: 4, 4, 4, 4, 8 slopes.
    far = load(table(row=row * 2.5), relative=relative, seasonal_period=4, horizon=5)
    squares = {"rmse_naive": [1, 2, 3, 4, 5], "rmse_seasonal_naive": [4, 4, 4, 4, 8]}
    expected = {name: 2.5 * math.sqrt(np.mean(np.square(steps))) for name, steps in squares.items()}
    assert far.baselines["test"] == pytest.approx(expected)
    wave = np.tile([1.5, -2.0, 0.25, 8.0, 3.0], ROWS)[:ROWS]
    periodic = load(table(row=wave), relative=relative, seasonal_period=5, horizon=7, targets=["row"])
    assert periodic.baselines["val"]["rmse_seasonal_naive"] == periodic.baselines["test"]["rmse_seasonal_naive"] == 0
    assert periodic.baselines["test"]["rmse_naive"] > 1


def test_a_file_has_no_seasonal_baseline_unless_asked_for(load):
    assert set(load().baselines["val"]) == {"rmse_naive"}
    assert set(build(Series, "sunspots", seasonal_period=7).baselines["val"]) == {"rmse_naive", "rmse_seasonal_naive"}


@pytest.mark.parametrize("name", ["sunspots", "co2"])
@pytest.mark.parametrize("relative", [False, True])
def test_the_baselines_are_errors_on_the_windows_of_the_metrics(name, relative):
    period = {"sunspots": 11, "co2": 52}[name]
    raw = DATASETS[name].read(name).iloc[:, -1].to_numpy()
    data = build(Series, name, relative=relative, window=33)
    rows = np.arange(len(raw) - round(0.2 * len(raw)), len(raw))
    assert np.isfinite(raw[rows[0] - period :]).all()
    assert len(rows) == len(data.splits.test[1])
    for key, back in (("rmse_naive", 1), ("rmse_seasonal_naive", period)):
        assert data.baselines["test"][key] == pytest.approx(np.sqrt(np.mean((raw[rows] - raw[rows - back]) ** 2)))


@pytest.mark.parametrize("relative", [False, True])
def test_to_predict_is_to_go_on_after_the_last_row(load, relative):
    data = load(horizon=2, targets=["row", "wave"], relative=relative)
    ((x,),) = data.predict_dataloader()
    last = table()[["row", "wave"]].to_numpy()[-WINDOW:]
    if not relative:
        mean, std = data.target_mean[:2], data.target_std[:2]
        assert torch.allclose(x[0] * std + mean, torch.tensor(last).float(), atol=1e-4)
    assert x.shape == (1, WINDOW, 2)
    outputs = torch.tensor([[0.5, -1.0, 0.25, 2.0]])
    change = outputs * data.target_std + data.target_mean
    expected = change + torch.from_numpy(np.tile(last[-1], 2)).float() * relative
    assert torch.allclose(data.in_units(outputs), expected)
    assert data.in_units(outputs).dtype == torch.float32


@pytest.mark.parametrize("relative", [False, True])
def test_a_newer_file_goes_on_in_the_scale_of_the_training_rows(load, save, relative):
    new = table(row=with_hole(np.arange(ROWS) * 10.0, ROWS - 1), other=1.0)[["wave", "other", "row", "date"]].iloc[40:]
    plain, data = (load(relative=relative, predict_path=path) for path in (None, save(new, "new.csv")))
    assert torch.equal(plain.splits.train[0], data.splits.train[0])
    ((x,),) = data.predict_dataloader()
    value = np.array([*np.arange(ROWS - WINDOW, ROWS - 1) * 10.0, (ROWS - 2) * 10.0])  # the last one is unknown
    if relative:
        assert data.in_units(torch.zeros(1, 1)).item() == pytest.approx(value[-1] + data.target_mean.item(), rel=1e-6)
        assert x[0, :, 0].sign().tolist() == [-1] * (WINDOW - 2) + [0, 0]
    else:
        assert (x[0, :, 0] * data.target_std + data.target_mean).tolist() == pytest.approx(value, rel=1e-5)


def test_training_alone_is_shuffled_and_device_resident_data_moves(load):
    data = load(device_resident=True)
    order = torch.cat([y for _, y in data.train_dataloader()])
    assert not torch.equal(order, data.splits.train[1])
    assert torch.equal(order.sort(dim=0).values, data.splits.train[1].sort(dim=0).values)
    assert torch.equal(torch.cat([y for _, y in data.test_dataloader()]), data.splits.test[1])
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=0, world_size=1, overfit_batches=0
    )
    assert {tensor.device.type for tensor in next(iter(data.train_dataloader()))} == {"meta"}


def test_windows_of_levels_share_the_memory_of_the_rows(load):
    train, _, test = load().splits[:3]
    assert train[0].untyped_storage().data_ptr() == test[0].untyped_storage().data_ptr()
    assert train[0].untyped_storage().nbytes() == ROWS * 2 * 4


RECIPE = """\
model: {class_path: unvanish.MLP, hidden_sizes: [16], training: {optimizer: {learning_rate: 1e-2}}}
data: {class_path: unvanish.data.series.Series, dataset: sunspots, window: 22, relative: true}
trainer: {max_epochs: 15}
"""


@pytest.mark.slow
def test_sunspots_beat_their_baselines_which_are_printed_beside_the_metrics(workplace, capsys):
    (workplace / "sun.yaml").write_text(RECIPE)
    assert main(["fit", "-c", "sun.yaml", "--no-gradients"]) == 0
    capsys.readouterr()
    assert main(["test", "-c", "sun.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = build(Series, "sunspots", window=22, relative=True).baselines["test"]
    kinds = {"naive": "rmse_naive", "seasonal naive": "rmse_seasonal_naive"}
    assert {name: found["baselines"][kind]["rmse"] for kind, name in kinds.items()} == pytest.approx(expected)
    assert found["metrics"]["rmse"] < min(expected.values()) * 0.8


@pytest.mark.slow
def test_the_forecast_of_a_file_follows_its_last_row(workplace, save):
    """A line goes on: a linear network of changes forecasts the next steps on the scale of the file."""
    line, newer = (save(table(row=np.arange(ROWS) * 3.0 + low, wave=0.0), f"{low}.csv") for low in (0, 5000))
    (workplace / "line.yaml").write_text(RECIPE.replace("dataset: sunspots, window: 22", "window: 5, horizon: 2"))
    data = [
        f"--data.path={line}",
        "--data.targets=[row]",
        "--data.loading.validation_share=17",
        "--data.loading.test_share=0.2",
    ]
    assert main(["fit", "-c", "line.yaml", "--no-gradients", "--trainer.max_epochs=1", *data]) == 0
    for options, last in (([], 100 * 3.0), ([f"--data.predict_path={newer}"], 5000 + 100 * 3.0)):
        assert main(["predict", "-c", "line.yaml", *options]) == 0
        (out,) = workplace.rglob("predictions.csv")
        forecast = pd.read_csv(out, index_col="row")
        assert list(forecast) == ["prediction_row+1", "prediction_row+2"]
        # The changes of a line are constants, so their scale is 1 and an untrained network is off by its output.
        assert forecast.iloc[0].tolist() == pytest.approx([last + 3, last + 6], abs=3)
