import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unvanish import page
from unvanish.command.compare import lines as run_lines
from unvanish.command.compare.comparison import Comparison, Kept
from unvanish.command.compare.lines import RunLines
from unvanish.command.compare.pictures import to_tensorboard
from unvanish.command.compare.report import map_of
from unvanish.command.compare.runs import Run
from unvanish.command.compare.task import Step
from unvanish.command.compare.view import view
from unvanish.command.hparams import differing
from unvanish.command.result import Result
from unvanish.gradients import Record, Report
from unvanish.gradients.show.heat_map import side_by_side
from unvanish.gradients.show.runs import run_of


def run(name, test, folder=Path("nowhere"), seed=0, metric="accuracy", mode="max", **values):
    numbers = {"first_over_last_start": 0.5, "first_over_last_end": test, "seconds": 3.0, "parameters": 7, "steps": 5}
    scores = {f"test/{metric}": test, f"val/{metric}": test - 0.01}
    result = Result("r", seed, metric=metric, mode=mode, scores=scores, verdict="healthy", **numbers | values)
    return Kept(Run(name, seed, folder / name / f"seed{seed}"), result)


def of(runs, folder=Path("nowhere")):
    return Comparison(runs, None, folder)


def comparison(**tests):
    return of([run(name, test) for name, test in tests.items()])


def test_columns_that_do_not_differ_are_left_out_and_said():
    shown = view(comparison(a=0.5, b=0.7), None)
    assert "parameters" not in shown.lines[0]
    assert "first/last, end" in shown.lines[0]
    (same,) = [note for note in shown.notes if note.startswith("The same in all: ")]
    assert "first/last, start 5.0e-01" in same
    assert "verdict healthy" in same
    assert "parameters 7" in same


def test_the_best_row_is_marked_and_equal_ones_are_all():
    assert [line[0] for line in view(comparison(a=0.5, b=0.7, c=0.70001), None).lines[1:]] == [" ", "*", "*"]
    shown = view(of([run(name, x, metric="rmse", mode="min") for name, x in (("a", 2.0), ("b", 3.0))]), None)
    assert ([line[0] for line in shown.lines[1:]], shown.best) == (["*", " "], {1})
    assert "* the best by test rmse." in shown.notes
    failed = Kept(Run("a", 0, Path("nowhere")), Result("r", 0, "failed", "no memory"))
    assert view(of([failed]), None).best == set()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_table_fits_the_terminal_and_says_what_it_goes_without(width):
    runs = [run(f"variant_{k}", k / 10, parameters=k, first_update_ratio=k, noise_scale=k) for k in range(1, 4)]
    shown = view(of(runs), width)
    assert max(map(len, shown.lines)) <= width
    assert "test accuracy" in shown.lines[0]
    told = " ".join(note for note in shown.notes if note.startswith("Left out, as the terminal is too narrow: "))
    for head in ("parameters", "noise scale", "first update"):
        assert (head in shown.lines[0]) != (head in told), head


def test_an_encoding_without_the_sign_gets_another_and_columns_stay_in_line():
    runs = [run(name, x + seed / 10, seed=seed) for name, x in (("a", 0.5), ("b", 0.7)) for seed in (0, 1)]
    head, *lines = view(of(runs), None, "ascii").lines
    assert lines[0].index("+-") == lines[1].index("+-")
    place = head.index("best validation")
    assert [line[place - 2 : place + 6] for line in lines] == ["  0.5400", "  0.7400"]


def test_what_two_variants_differ_in_is_found():
    rows = [{"recipe": "a", "seed": 0, "x": 1, "y": "b"}, {"recipe": "c", "seed": 0, "x": 2, "y": "b", "z": 3}]
    assert differing(rows) == {"x", "z"}


def report(factor, steps=200):
    found = Report()
    for step in range(steps):
        deltas = {"first": factor, "last": 1.0 if step else math.nan}
        values = {"delta_rms": deltas, "delta_norm": deltas, "gradient_norm": {"first": 1.0}}
        found.add([Record(step, 0.0, values)])
    return found


def test_a_comparison_s_map_has_every_variant_that_has_kept_its_gradients(tmp_path):
    runs = of([run(name, test, tmp_path) for name, test in (("a", 0.5), ("b", 0.7), ("c", 0.1))], tmp_path)
    for name, factor in (("a", 1e-9), ("b", 0.5)):
        (tmp_path / name / "seed0").mkdir(parents=True)
        page.write(tmp_path / name / "seed0/report.html", [run_of(report(factor))])
    png = map_of(runs)
    steps = [round(k * 199 / 63) for k in range(64)]
    columns = {
        name: [{"first": factor, "last": 1.0 if step else math.nan} for step in steps]
        for name, factor in (("a", 1e-9), ("b", 0.5))
    }
    expected = side_by_side({name: (steps, rows) for name, rows in columns.items()}, "root mean square of δ = ∂L/∂z")
    assert png == expected
    for _ in range(2):  # the second takes the place of the first
        to_tensorboard({"comparison_map": png}, 5, tmp_path)
    (_,) = tmp_path.glob("events.*")
    (image,) = EventAccumulator(str(tmp_path)).Reload().Images("Overview/variants_map")
    assert image.step == 5
    assert map_of(of([run("c", 0.1, tmp_path)])) is None


def test_each_run_has_a_line_while_it_trains_and_all_of_them_one(monkeypatch):
    import io

    from rich.console import Console

    stream = io.StringIO()
    where = Console(file=stream, force_terminal=True, width=80, color_system=None)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(run_lines, "console", lambda: where)
    lines = RunLines({Path(name): f"{name}, seed 0" for name in ("plain", "tanh", "relu")}, 1)
    assert lines.is_live
    with lines.shown():
        lines.tell(Step(Path("plain"), 30, 60))
        lines.tell(Step(Path("tanh"), 15, 60))
        whole, plain, tanh = lines._progress.tasks
        assert (whole.description, whole.total, whole.completed) == ("1 of 4 runs", 3, 0.75)
        assert [plain.percentage, tanh.percentage] == [50, 25]
        lines.finished(Path("plain"))
        assert (whole.description, whole.completed) == ("2 of 4 runs", 1.25)
        assert [task.description for task in lines._progress.tasks] == ["2 of 4 runs", "tanh, seed 0"]
    assert "plain, seed 0" in stream.getvalue()


@pytest.mark.slow
def test_the_runs_of_a_comparison_keep_what_differs_for_hparams(workplace):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    from unvanish.command.main import main

    (workplace / "two.yaml").write_text("base: mlp/wine\nvariants: {a: {}, b: {model.activation: tanh}}")
    small = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=1"]
    assert main(["compare", "two.yaml", "--out=here", *small]) == 0
    log = EventAccumulator(str(workplace / "here/b/seed0")).Reload()
    content = log.summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = HParamsPluginData.FromString(content).experiment
    assert [info.name for info in experiment.hparam_infos if info.differs] == ["activation"]
    assert [metric.name.tag for metric in experiment.metric_infos] == [
        "hparams/best_score",
        "hparams/first_over_last_log10",
    ]
    assert (workplace / "here/comparison_map.png").read_bytes().startswith(b"\x89PNG")
    own = EventAccumulator(str(workplace / "here"), size_guidance={"images": 0}).Reload()
    assert own.Tags()["images"] == ["Overview/variants", "Overview/variants_map"]
