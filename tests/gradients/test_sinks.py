import csv
import json
import math
from collections import defaultdict

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.data import DataLoader

from unvanish import GradientMonitor
from unvanish.gradients import GradientRecorder, JsonLines, Metrics, Record, Report
from unvanish.gradients.judge.report import summary

FEATURES, CLASSES, STEPS = 5, 3, 17
FULL = [*range(10), 12, 16]
LAYERS = ["0", "1.branch.0", "1.branch.2", "2"]
SUMS = {"gradient/norm", "gradient/first_over_last", "gradient/first_over_last_log10", "gradient/decay_per_layer"}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Residual(torch.nn.Module):
    """A branch whose sum with its input has a name with a +."""

    def __init__(self, width):
        super().__init__()
        self.branch = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Tanh(), torch.nn.Linear(width, width))

    def forward(self, x):
        return x + self.branch(x)


class Network(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(FEATURES, 7), Residual(7), torch.nn.Linear(7, CLASSES))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch, batch_index):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.net(x), y)


def batches(poison=()):
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        x = torch.randn(11, FEATURES, generator=generator)
        yield x * (math.nan if step in poison else 1), torch.randint(CLASSES, (11,), generator=generator)


def fit(folder, loggers, sinks=(), poison=(), **options):
    monitor = GradientMonitor(4, verbose=False, sinks=[*sinks], **options)
    options = {"default_root_dir": folder, "max_epochs": 1, "accelerator": "cpu", "log_every_n_steps": 1}
    trainer = L.Trainer(**QUIET, **options, logger=loggers, callbacks=[monitor])
    trainer.fit(Network(), DataLoader([*batches(poison)], batch_size=None))
    for logger in trainer.loggers:
        logger.finalize("success")
    return monitor


@pytest.fixture(scope="module")
def expected():
    """The metrics that a logger should get, by step, from the recorder of a raw loop that trains the same."""
    network, report, found = Network(), Report(), {}
    optimizer = network.configure_optimizers()
    with GradientRecorder(network, 4) as recorder:
        for step, batch in enumerate(batches()):
            optimizer.zero_grad()
            loss = network.training_step(batch, step)
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(step, batch_size=11)
            optimizer.step()
            recorder.after_step(optimizer)
    for record in recorder.flush():
        report.add([record])
        totals = {f"gradient/{name.removeprefix('gradient_')}": v for name, v in record.totals.items()}
        layers = {f"{q}/{name}": v for q, values in record.values.items() for name, v in values.items()}
        found[record.step] = totals | summary(record, report) | layers
    return found


def approximately(metrics):
    return pytest.approx(metrics, rel=1e-5, abs=1e-7, nan_ok=True)


def read_csv(folder):
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return {int(row["step"]): {k: float(v) for k, v in row.items() if v and k != "step"} for row in rows}


def test_a_csv_file_has_what_sums_each_full_step_up(tmp_path, expected):
    fit(tmp_path, CSVLogger(tmp_path, "", "run"))
    found = read_csv(tmp_path / "run")
    assert [*found] == FULL
    for step, metrics in found.items():
        assert metrics.keys() >= SUMS
        assert not [name for name in metrics if not name.startswith("gradient/")]
        assert metrics == approximately({name: expected[step][name] for name in metrics})


def test_and_on_request_every_layer(tmp_path, expected):
    fit(tmp_path, CSVLogger(tmp_path, "", "run"), every_layer=True)
    found = read_csv(tmp_path / "run")
    assert [*found] == FULL
    for step, metrics in found.items():
        names = {name.replace("+", "_sum"): value for name, value in expected[step].items()}
        assert metrics == approximately(names)
        assert {f"gradient_norm/net.{layer}" for layer in LAYERS} <= metrics.keys()
        assert "stream_norm/net.1.branch_sum" in metrics


def test_several_loggers_and_a_file_get_the_same(tmp_path, expected):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loggers = [CSVLogger(tmp_path, "", "csv"), CSVLogger(tmp_path, "", "other"), TensorBoardLogger(tmp_path, "", "tb")]
    fit(tmp_path, loggers, [JsonLines(tmp_path / "new" / "gradients.jsonl")])
    first = read_csv(tmp_path / "csv")
    assert first == read_csv(tmp_path / "other")
    events = EventAccumulator(str(tmp_path / "tb"), size_guidance={"scalars": 0}).Reload()
    lines = [json.loads(line) for line in (tmp_path / "new" / "gradients.jsonl").read_text().splitlines()]
    steps = {line["step"]: line for line in lines if "verdict" not in line}
    assert [*steps] == [*range(STEPS)]
    for name, group in (("first_over_last_log10", "Overview"), ("decay_per_layer", "gradient")):
        assert {event.step: event.value for event in events.Scalars(f"{group}/{name}")} == approximately(
            {step: metrics[f"gradient/{name}"] for step, metrics in first.items()}
        )
    for name in SUMS - {"gradient/norm"}:
        assert {step: line[name] for step, line in steps.items() if name in line} == approximately(
            {step: metrics[name] for step, metrics in first.items()}
        )
    for step, line in steps.items():
        assert line["gradient_norm"] == pytest.approx(expected[step]["gradient/norm"], rel=1e-5)
        for quantity, layers in line["values"].items():
            for layer, value in layers.items():
                assert value == approximately(expected[step][f"{quantity}/{layer}"]), (quantity, layer, step)
    assert [line["step"] for line in lines if "verdict" in line] == [9, 16]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow 3.17 on SQLAlchemy 2.1
def test_mlflow_takes_every_name_and_every_value(tmp_path, expected):
    mlflow = pytest.importorskip("mlflow", reason="the extra 'loggers' brings it")
    pytest.importorskip("sqlalchemy", reason="MLflow keeps its runs in a database")
    where = f"sqlite:///{tmp_path / 'runs.db'}"
    logger = MLFlowLogger("gradients", tracking_uri=where, artifact_location=str(tmp_path))
    fit(tmp_path, logger, every_layer=True)
    client = mlflow.MlflowClient(where)
    found = defaultdict(dict)
    for name in client.get_run(logger.run_id).data.metrics:
        for metric in client.get_metric_history(logger.run_id, name):
            found[metric.step][name] = metric.value
    assert sorted(found) == FULL
    for step, metrics in found.items():
        assert metrics == approximately({name.replace("+", "_sum"): v for name, v in expected[step].items()})


def test_wandb_offline_takes_every_name_and_every_value(tmp_path, expected, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="the extra 'loggers' brings it")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger, logged = WandbLogger(save_dir=tmp_path, offline=True), []
    run = type(logger.experiment)

    def log(self, data, *arguments, log=run.log, **keywords):
        logged.append({**data})
        log(self, data, *arguments, **keywords)

    monkeypatch.setattr(run, "log", log)
    fit(tmp_path, logger, every_layer=True)
    wandb.finish()
    assert [data.pop("trainer/global_step") for data in logged] == FULL
    for step, metrics in zip(FULL, logged, strict=True):
        assert metrics == approximately({name.replace("+", "_sum"): v for name, v in expected[step].items()})
    assert [*tmp_path.glob("wandb/offline-run-*/*.wandb")]


class Log:
    """A logger that keeps what it gets."""

    def __init__(self):
        self.metrics = {}

    def log_metrics(self, metrics, step):
        self.metrics[step] = metrics


def record(step, norm=1.0, *, is_full=True):
    values = {"gradient_norm": {"a": norm}} | ({"delta_norm": {"a": norm, "b": 2.0}} if is_full else {})
    return Record(step, 0.0, values, {"gradient_norm": norm})


def test_of_the_steps_between_metrics_has_the_first_that_is_not_finite():
    log = Log()
    sink = Metrics(log)
    for step, norm in enumerate([1.0, math.nan, math.nan, 1.0, math.inf]):
        sink.write(record(step, norm, is_full=False), {})
    assert log.metrics == {1: {"gradient/norm": pytest.approx(math.nan, nan_ok=True)}, 4: {"gradient/norm": math.inf}}


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_nan_infinity_and_zero_are_values(tmp_path, value):
    log, path = Log(), tmp_path / "gradients.jsonl"
    for sink in (Metrics(log, everything=True), JsonLines(path)):
        sink.write(record(0, value))
    assert log.metrics[0]["gradient/norm"] == pytest.approx(value, nan_ok=True)
    assert log.metrics[0]["delta_norm/a"] == pytest.approx(value, nan_ok=True)
    (line,) = path.read_text().splitlines()
    assert float(json.loads(line)["values"]["delta_norm"]["a"]) == pytest.approx(value, nan_ok=True)
    first_over_last = log.metrics[0]["gradient/first_over_last"]
    assert float(json.loads(line)["gradient/first_over_last"]) == pytest.approx(first_over_last, nan_ok=True)


@pytest.mark.parametrize("poison", [(4,), (14,)])
def test_a_gradient_that_is_nan_reaches_every_logger_at_its_step(tmp_path, poison):
    path = tmp_path / "gradients.jsonl"
    fit(tmp_path, CSVLogger(tmp_path, "", "run"), [JsonLines(path)], poison)
    found = read_csv(tmp_path / "run")
    assert next(step for step, metrics in found.items() if math.isnan(metrics["gradient/norm"])) == poison[0]
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    assert next(line["step"] for line in steps if line.get("gradient_norm") == "nan") == poison[0]


def test_names_are_what_every_logger_takes():
    log = Log()
    values = {"stream_norm": {"a+": 1.0}, "delta_norm": {"ä/b:c": 2.0, "d-e_f.0": 3.0}}
    Metrics(log, everything=True).write(Record(0, 0.0, values), {})
    assert log.metrics[0] == {"stream_norm/a_sum": 1.0, "delta_norm/_/b_c": 2.0, "delta_norm/d-e_f.0": 3.0}


def test_a_raw_loop_writes_with_a_line(tmp_path, expected):
    network, log = Network(), Log()
    optimizer, sinks = network.configure_optimizers(), [JsonLines(tmp_path / "gradients.jsonl"), Metrics(log)]
    with GradientRecorder(network, 4) as recorder:
        for step, batch in enumerate(batches()):
            optimizer.zero_grad()
            loss = network.training_step(batch, step)
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
            for record in recorder.flush():
                for sink in sinks:
                    sink.write(record)
    lines = [json.loads(line) for line in (tmp_path / "gradients.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(STEPS)]
    assert [*log.metrics] == FULL
    for line in lines:
        wanted = {name: expected[line["step"]][name] for name in SUMS & expected[line["step"]].keys()}
        wanted["gradient_norm"] = wanted.pop("gradient/norm")
        assert {name: line[name] for name in wanted} == approximately(wanted)
        assert not (SUMS - wanted.keys() - {"gradient/norm"}) & line.keys()


def test_a_file_is_begun_anew_or_gone_on_with_and_only_by_whoever_writes(tmp_path):
    path = tmp_path / "gradients.jsonl"
    for append, steps in ((False, [0]), (True, [0, 1]), (False, [2])):
        JsonLines(path)  # as of a rank that has nothing to write
        JsonLines(path, append=append).write(record(steps[-1]))
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == steps


def test_a_sink_that_fails_is_one_warning_and_the_others_go_on(tmp_path, caplog):
    class Full:
        def write(self, record, sums):
            if record.step == 3:
                raise OSError("no space left")

        tell = close = write

    caplog.set_level("WARNING", "unvanish.gradients")
    path = tmp_path / "gradients.jsonl"
    monitor = fit(tmp_path, CSVLogger(tmp_path, "", "run"), [Full(), JsonLines(path)])
    ours = [r.message for r in caplog.records if r.name.startswith("unvanish")]
    assert ours == ["Full gets no gradients any more: OSError: no space left"]
    assert monitor.report.steps == STEPS
    assert len(path.read_text().splitlines()) == STEPS + 2
    assert [*read_csv(tmp_path / "run")] == FULL
