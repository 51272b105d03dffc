import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from unvanish.activations import ACTIVATIONS
from unvanish.command import progress, terminal
from unvanish.command.arguments import understood
from unvanish.command.completion import keys_of
from unvanish.command.errors import FailedError, WrongInputError
from unvanish.command.experiment import Experiment
from unvanish.command.main import answered, main
from unvanish.command.recipe_list import head_of, recipe_list
from unvanish.command.recipes import load, names, packaged
from unvanish.command.verbs import parser
from unvanish.gradients.show.bars import bar, bars
from unvanish.training import ReferenceModule
from unvanish.training.regularization import weights_of

SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=3"]


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """Whatever the tests run in, they are about a usual terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def screen(width=60, **options):
    """A terminal, and what was written to it."""
    stream = io.StringIO()
    return stream, Console(file=stream, force_terminal=True, width=width, highlight=False, markup=False, **options)


def test_a_sentence_wraps_at_words_on_a_terminal_and_stays_whole_in_a_pipe(capsys):
    text = ("gradients after 10 steps: vanishing: " + "the early layers barely change, " * 5).strip()
    stream, where = screen(no_color=True, color_system=None)
    terminal.say(text, where)
    lines = stream.getvalue().rstrip("\n").split("\n")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 60
    assert " ".join(line.strip() for line in lines).split() == text.split()
    terminal.say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_each_finding_s_name_has_a_colour_unless_no_color_is_set(monkeypatch):
    text = "gradients after 10 steps: vanishing: a gets less.\nand steps too small: b."
    stream, where = screen(color_system="standard")
    terminal.say(text, where)
    assert stream.getvalue().count("\x1b[1;31m") == 2
    monkeypatch.setenv("NO_COLOR", "1")
    stream, where = screen(color_system="standard")
    terminal.say(text, where)
    assert not re.search(r"\x1b\[[\d;]*3\d", stream.getvalue())


def test_what_an_encoding_has_no_letters_for_is_spelt():
    assert terminal.printable("|δ| 0.5 ± 0.1…", "ascii") == "|delta| 0.5 +- 0.1..."
    assert terminal.printable("|δ| 0.5 ± 0.1…", "utf-8") == "|δ| 0.5 ± 0.1…"
    assert terminal.printable("日", "ascii") == "?"


def test_nothing_is_live_in_a_pipe_or_on_a_dumb_terminal(monkeypatch):
    assert terminal.is_live(screen()[1])
    assert not terminal.is_live(Console(file=io.StringIO()))
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.is_live(screen()[1])


@pytest.mark.parametrize(("value", "eighths"), [(1e-18, 0), (1e1, 160), (10**-8.5, 80), (1e-30, 0), (1e9, 160)])
def test_a_bar_is_as_long_as_the_logarithm(value, eighths):
    found = bar(value)
    assert len(found) == 20
    blocks = " ▏▎▍▌▋▊▉█"
    assert sum(blocks.index(letter) for letter in found) == eighths
    assert bar(value, ascii_only=True).count("#") == eighths // 8


def test_bars_print_the_first_value_the_last_and_what_has_no_place():
    line = {"net.a": 1e-17, "net.b": 0.0, "net.c": float("nan"), "net.d": 1e-3, "net.e": 0.5}
    head, *rows = bars(line)
    assert "from 1e-18 to 1e+1" in head
    assert [row.split()[0] for row in rows] == ["a", "b", "c", "d", "e"]
    assert [row[23:].strip() for row in rows] == ["1.0e-17", "exactly 0", "nan", "", "5.0e-01"]
    assert all(row.isascii() for row in bars(line, ascii_only=True))
    assert bars({}) == []
    by_time = bars({"t = 1": 1e-9, "t = 50": 1e-3, "t = 100": 1.0}, layer="rnn", ascii_only=True)
    assert by_time[0] == "|dL/dh| by time, rnn, log scale from 1e-18 to 1e+1"
    assert [row[:7].rstrip() for row in by_time[1:]] == ["t = 1", "t = 50", "t = 100"]


def test_of_many_layers_evenly_spaced_ones_are_shown_and_that_is_said():
    head, *rows = bars({f"layers.{index}": 0.1 for index in range(96)})
    assert head.endswith("; 20 of 96 layers, evenly spaced")
    shown = [int(row.split()[0]) for row in rows]
    assert shown == [round(5 * k) for k in range(20)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.123, "0.12s"), (7.26, "7.3s"), (185, "3m05s"), (7620, "2h07m"), (99.96, "1m40s")]
)
def test_a_time_is_short(seconds, text):
    assert progress.duration(seconds) == text


def fit_on(monkeypatch, where, *words):
    monkeypatch.setattr(progress, "console", lambda: where)
    assert main(["fit", "mlp/wine", *SMALL, *words]) == 0


@pytest.mark.slow
def test_on_a_terminal_each_epoch_has_a_row_and_the_best_are_marked(workplace, monkeypatch):
    stream, where = screen(80, color_system=None)
    fit_on(monkeypatch, where)
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue()).replace("\r", "\n")
    rows = re.findall(r"^ +(\d)/3 .*$", shown, re.MULTILINE)
    assert rows == ["1", "2", "3"]
    metrics = (workplace / "runs/mlp/wine/1/metrics.csv").read_text().splitlines()
    column = metrics[0].split(",").index("val/accuracy")
    scores = [float(line.split(",")[column]) for line in metrics[1:] if line.split(",")[column]]
    for number, score in zip(rows, scores, strict=True):
        mark = "*" if score == max(scores[: int(number)]) else " "
        assert re.search(rf"^ +{number}/3 .* {re.escape(f'{score:.4g}{mark}')} ", shown, re.MULTILINE), number
    assert re.search(r"epoch \d/3 .* steps/s", shown)


def test_the_train_loss_of_a_row_is_the_mean_of_its_epoch_without_the_penalty(workplace, monkeypatch):
    stream, where = screen(80, color_system=None)
    seen = {}
    step = ReferenceModule.training_step

    def noted(module, batch, index):
        loss = step(module, batch, index)
        penalty = module.settings.regularization.penalty(weights_of(module))
        seen.setdefault(module.current_epoch + 1, []).append(float((loss - penalty).detach()))
        return loss

    monkeypatch.setattr(ReferenceModule, "training_step", noted)
    fit_on(monkeypatch, where, "--model.training.regularization.l2=0.1")
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", stream.getvalue()).replace("\r", "\n")
    rows = {int(epoch): float(loss) for epoch, loss in re.findall(r"^ +(\d)/3 +([\d.e+-]+)", shown, re.MULTILINE)}
    assert len(seen[1]) > 1
    assert rows == {epoch: pytest.approx(sum(losses) / len(losses), rel=1e-3) for epoch, losses in seen.items()}


def test_without_validation_there_are_no_columns_for_it_and_nan_is_said(workplace, capsys):
    rate = "--model.training.optimizer.learning_rate=1e30"
    assert (
        main(
            [
                "fit",
                "mlp/wine",
                *SMALL,
                "--data.loading.validation_share=0",
                rate,
                "--no-gradients",
                "--on-nonfinite=ignore",
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert re.search(r"^ +epoch  train loss +lr +time$", shown, re.MULTILINE)
    assert re.search(r"^ +3/3 +nan ", shown, re.MULTILINE)


@pytest.mark.slow
def test_the_end_of_a_run_names_what_to_do_next_with_its_loggers(workplace, capsys):
    assert main(["fit", "mlp/wine", *SMALL, "--trainer.logger=false"]) == 0
    shown = capsys.readouterr().out
    assert "tensorboard" not in shown
    assert "kept in runs/mlp/wine/1\nnext: unvanish test runs/mlp/wine/1/config.yaml\n" in shown
    assert re.search(r"^hidden\.0 +[█▏▎▍▌▋▊▉]+ +\d\.\de-\d\d$", shown, re.MULTILINE)
    assert main(["test", "runs/mlp/wine/1/config.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checkpoint"] == "runs/mlp/wine/1/checkpoints/best.ckpt"
    assert 0 <= found["metrics"]["accuracy"] <= 1


def test_alone_it_prints_its_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: unvanish ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fit mlp/digits", "fit -c mlp/digits"),
        ("fit mlp/digits hardware/gpu --seed=1", "fit -c mlp/digits -c hardware/gpu --seed=1"),
        ("fit --runs there mlp/digits", "fit --runs there -c mlp/digits"),
        ("fit -c mlp/digits --model.activation tanh", "fit -c mlp/digits --model.activation=tanh"),
        ("fit mlp/digits --model.x -0.5 --no-gradients", "fit -c mlp/digits --model.x=-0.5 --no-gradients"),
        ("fit --no-gradients mlp/digits", "fit --no-gradients -c mlp/digits"),
        ("diagnose mlp/digits --json", "diagnose -c mlp/digits --json"),
        ("check unvanish.MLP --task binary", "check unvanish.MLP --task binary"),
        ("check mlp/digits", "check -c mlp/digits"),
        ("compare a b --seeds 3", "compare a b --seeds 3"),
        ("recipes show quickstart", "recipes show quickstart"),
        ("--version", "--version"),
    ],
)
def test_a_recipe_needs_no_c(words, expected):
    assert understood(words.split(), parser()) == expected.split()


def test_every_recipe_is_listed_with_its_summary_and_a_time_within_the_width():
    whole = recipe_list(None).split("\n")
    for name in names():
        head = head_of(packaged() / f"{name}.yaml")
        assert len(head.summary) > 10, name
        assert not head.summary.startswith(("unvanish", "expect", "time")), name
        assert any(line.split()[:1] == [name] and line.endswith(head.summary) for line in whole), name
    assert head_of(packaged() / "mlp/digits.yaml") == (
        "A wider network with dropout and a one-cycle learning rate",
        "7 s",
    )
    assert max(map(len, recipe_list(80).split("\n"))) <= 80


@pytest.mark.parametrize("name", ["mlp/digits", "cnn/digits", "recurrent/text", "transformer/digits", "mlp/csv"])
def test_the_keys_that_complete_are_those_that_a_recipe_has(name):
    parser = Experiment.parse(load([name]), ["--data.path=x", "--data.target=y"] if name == "mlp/csv" else []).parser
    linked = {"data.loading.seed", "model.training.task"}
    hidden = {"input_shape", "output_size", "vocabulary_size", "padding_index"}
    keys = {key for key in list(parser.get_defaults().keys()) if key.rpartition(".")[2] not in hidden} - linked
    assert set(keys_of([name])) == keys


def test_the_values_that_complete_are_those_of_the_annotations():
    found = keys_of(["mlp/digits"])
    assert found["model.normalization"] == ["none", "batch", "layer", "group"]
    assert found["model.activation"] == list(ACTIVATIONS)  # by the name of a Literal
    assert found["model.residual"] == ["true", "false"]
    assert found["model.num_layers"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("f", {"fit"}),
        ("fit mlp/di", {"mlp/diabetes", "mlp/digits"}),
        ("fit mlp/digits --model.ac", {"--model.activation"}),
        ("fit mlp/digits --model.activation r", {"relu"}),
        ("fit vanishing/mlp --variant r", {"relu_he", "residual"}),
        ("compare vanishing/mlp_", {"vanishing/mlp_depth"}),
        ("compare vanishing/mlp --set model.normalization=b", {"model.normalization=batch"}),
        ("recipes show wrap/", {"wrap/resnet18"}),
        ("exercise 4", {"4a", "4b", "4c"}),
        ("exercise softmax_", {"softmax_jacobian", "softmax_backward"}),
        ("test here", {"here/"}),
    ],
)
def test_a_shell_completes_without_torch(tmp_path, line, found):
    pytest.importorskip("argcomplete", reason="it completes")
    (tmp_path / "here").mkdir()
    line, answer = f"unvanish {line}", tmp_path / "answer.txt"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_COMP_WORDBREAKS": " \t"}
    command = [sys.executable, "-X", "importtime", "-m", "unvanish"]
    ended = subprocess.run(command, env=os.environ | asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {word.strip() for word in answer.read_text().split("\n")} == found
    assert not re.search(r"\| +torch$", ended.stderr, re.MULTILINE)


@pytest.mark.parametrize(("error", "code"), [(FailedError, 1), (WrongInputError, 2)])
def test_how_a_verb_has_ended_wraps_at_words_on_a_terminal(monkeypatch, error, code):
    stream, where = screen(no_color=True, color_system=None)
    monkeypatch.setattr(terminal, "console", lambda _: where)
    words = "there is no room left for the checkpoint that " + "is kept beside the run, " * 5

    def verb():
        raise error(words)

    assert answered(verb) == code
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= 60
    assert " ".join(lines) == f"unvanish: {words}".strip()
