import subprocess
import sys

import pytest
import torch

import unvanish
from unvanish.command.main import main
from unvanish.gradients import Record


def test_what_needs_no_torch_does_not_wait_for_it():
    code = """
import sys
from unvanish.command.main import main
for words in ("--help", "--version", "recipes", "recipes show quickstart", "fit --help"):
    try:
        code = main(words.split())
    except SystemExit as error:
        code = error.code
    assert not code, words
    assert "torch" not in sys.modules, words
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"unvanish {unvanish.__version__}\n"


def test_the_public_names_are_there_and_no_others():
    for name in unvanish.__all__:
        assert getattr(unvanish, name).__name__ == name
    assert {name for name in dir(unvanish) if not name.startswith("_")} == set(unvanish.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'MPL'"):
        unvanish.MPL  # noqa: B018


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["recipes", "lst"], "list"),
        (["fit", "quickstart", "--on-nonfinite=stpo"], "stop"),
        (["diagnos", "quickstart"], "diagnose"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_one_that_is_meant(words, meant, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"; did you mean '{meant}'?" in line


def test_help_with_a_recipe_lists_its_keys(capsys):
    assert main(["fit", "-c", "quickstart", "--help"]) == 0
    shown = capsys.readouterr().out
    for key in (
        "--model.activation",
        "--model.training.optimizer.learning_rate",
        "--data.dataset",
        "--gradients.every_n_steps",
    ):
        assert key in shown
    assert "--model.input_shape" not in shown
    assert "--model.activation {sigmoid,tanh,relu,leaky_relu,gelu,selu,silu,identity}" in " ".join(shown.split())


def test_a_recipe_is_shown_with_all_its_defaults(capsys):
    assert main(["recipes", "show", "quickstart", "--resolved"]) == 0
    assert "learning_rate: 0.001" in capsys.readouterr().out


def test_doctor_is_content_here_and_says_what_a_run_may_import(capsys, monkeypatch):
    monkeypatch.setenv("UNVANISH_TRUST", "mine")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"torch        {torch.__version__.split('+')[0]}" in shown
    assert "all is well" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("may import ")]
    packages = "torch.nn, torch.optim, torchvision, timm, transformers, lightning, unvanish"
    assert line.removeprefix("may import   ") == f"{packages}, mine (by UNVANISH_TRUST)"


@pytest.mark.parametrize(
    ("module", "error", "expected"),
    [
        ("torchvision", RuntimeError("operator torchvision::nms does not exist"), "are not a pair"),
        ("lightning", ImportError("No module named 'x'"), "lightning cannot be imported (No module named 'x')"),
    ],
)
def test_doctor_names_what_is_broken_and_how_to_mend_it(capsys, monkeypatch, module, error, expected):
    def broken_import(name):
        if name == module:
            raise error

    monkeypatch.setattr("unvanish.command.doctor.import_module", broken_import)
    assert main(["doctor"]) == 1
    (fault,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BROKEN")]
    assert expected in fault
    assert "pip install" in fault


def test_doctor_names_a_version_that_is_too_old(capsys, monkeypatch):
    monkeypatch.setattr("unvanish.command.doctor.version", lambda name: "2.6.3" if name == "lightning" else "99")
    assert main(["doctor"]) == 1
    assert "lightning 2.6.3 is too old or too new: pip install 'lightning>=2.6.6'" in capsys.readouterr().out


def test_what_is_printed_of_public_objects_is_a_line_and_says_what_is_not_the_default():
    sgd = unvanish.Optimizer("sgd", 0.1)
    assert repr(unvanish.Training()) == "Training()"
    assert repr(unvanish.Training(optimizer=sgd)) == "Training(optimizer=Optimizer(name='sgd', learning_rate=0.1))"
    assert repr(unvanish.GradientMonitor()) == "GradientMonitor(0 steps)"
    data = unvanish.Images("digits")
    assert repr(data) == "Images(digits)"
    assert len(data.splits.train[0]) == 1294
    assert str(data) == "Images(digits, train: 1294, validation: 144, test: 359)"
    record = Record(3, 0.0, {"delta_norm": {"a": 1.0, "b": 2.0}, "delta_rms": {"a": 1.0}})
    assert repr(record) == "Record(step=3, 2 quantities of 2 layers)"


def test_a_reader_that_has_seen_enough_is_no_traceback():
    command = [sys.executable, "-m", "unvanish", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listing:
        listing.stdout.close()
        assert "Traceback" not in listing.stderr.read()
    assert listing.returncode == 141
