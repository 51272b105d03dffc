import shlex
import sys

import pytest

from unvanish.command.main import main

MINE = """
import math
import torch
from torch import nn
from unvanish import ReferenceModule, Training


class Good(ReferenceModule):
    def __init__(self, input_shape: tuple[int, ...], output_size: int, depth: int = 1, training: Training = Training()):
        super().__init__(training)
        sizes = [math.prod(input_shape)] + depth * [5]
        hidden = [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Linear(*pair), nn.Tanh())]
        dropout = nn.Dropout(training.regularization.dropout)
        self.layers = nn.Sequential(nn.Flatten(), *hidden, dropout, nn.Linear(sizes[-1], output_size))

    def forward(self, x):
        z = self.layers(x)
        return z.squeeze(-1) if self.settings.task == "binary" else z


class Broken(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0))
"""
RECIPE = """
model: {class_path: mine.Broken, depth: 2}
data: {class_path: unvanish.Images, dataset: digits}
"""
CLAUSES = [
    "output shape",
    "logits",
    "gradients",
    "arguments",
    "seeds",
    "repetition",
    "independence",
    "state dict",
    "checkpoint",
    "precision",
    "compile",
    "dropout",
    "options",
]


@pytest.fixture
def mine(workplace, monkeypatch):
    """A file with a network that keeps the contract, one that does not, and a recipe."""
    (workplace / "mine.py").write_text(MINE)
    (workplace / "recipe.yaml").write_text(RECIPE)
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setenv("UNVANISH_TRUST", "mine")
    return workplace


def check(capsys, words):
    """The exit code, the first line, and what is said of each clause."""
    code = main(["check", *shlex.split(words)])
    captured = capsys.readouterr()
    assert captured.err == ""
    head, *lines = captured.out.splitlines()
    return code, head, [line.split(maxsplit=1) for line in lines]


@pytest.mark.slow
def test_a_good_network_gets_a_line_for_each_clause_and_0(mine, capsys):
    before = sorted(mine.rglob("*"))
    code, head, lines = check(capsys, "mine.Good --input-shape 3,7 --output-size 5")
    assert head == "Good: task multiclass (by default), input_shape (3, 7), output_size 5"
    assert lines == [["ok", clause] for clause in CLAUSES]
    assert code == 0
    assert sorted(mine.rglob("*")) == before


@pytest.mark.slow
def test_a_broken_network_gets_the_sentence_and_1(mine, capsys):
    code, _, lines = check(capsys, "mine.Broken --input-shape 7")
    assert [word for word, _ in lines].count("FAILED") == 1
    assert lines[6] == [
        "FAILED",
        "independence: a sample changes the output of others in its batch, in evaluation",
    ]
    assert code == 1


@pytest.mark.slow
def test_a_recipe_gives_sizes_and_arguments(mine, capsys):
    code, head, lines = check(capsys, "-c recipe.yaml")
    assert head == "Broken: task multiclass, input_shape (1, 8, 8), output_size 10"
    assert [word for word, _ in lines].count("FAILED") == 1
    assert code == 1
    code, head, _ = check(capsys, "-c mlp/digits --model.hidden_sizes=7")
    assert head == "MLP: task multiclass, input_shape (1, 8, 8), output_size 10"
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "head"),
    [
        ("", "task multiclass (by default), input_shape (3, 32, 32) (by default), output_size 10 (by default)"),
        ("--task binary", "task binary, input_shape (3, 32, 32) (by default), output_size 1 (by default)"),
        ("--task regression --input-shape 7", "task regression, input_shape (7,), output_size 2 (by default)"),
    ],
)
def test_sizes_that_are_not_given_are_chosen_and_said(mine, capsys, words, head):
    code, said, _ = check(capsys, f"mine.Good {words}")
    assert said == f"Good: {head}"
    assert code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "head"),
    [
        (
            "--task next_token",
            "task next_token, input_shape (16,) (by default), output_size 65 (by default), vocabulary_size 65 "
            "(by default)",
        ),
        (
            "--task next_token --vocabulary-size 11 --input-shape 7",
            "task next_token, input_shape (7,), output_size 11 (by default), vocabulary_size 11",
        ),
        (
            "--vocabulary-size 11 --padding-index 0",
            "task multiclass (by default), input_shape (16,) (by default), output_size 10 (by default), "
            "vocabulary_size 11, padding_index 0",
        ),
    ],
)
def test_sizes_of_texts(workplace, capsys, words, head):
    code, said, lines = check(capsys, f"unvanish.networks.recurrent.Recurrent --hidden_size=5 {words}")
    assert said == f"Recurrent: {head}"
    assert ("causality" in [clause for _, clause in lines]) == ("next_token" in words)
    assert code == 0


@pytest.mark.slow
def test_arguments_of_a_network_are_options(mine, capsys):
    words = "unvanish.MLP --input-shape 7 --output-size 1 --task=binary --hidden_sizes=[5,5] --model.residual true"
    code, head, lines = check(capsys, f"{words} --training.regularization.dropout=0.2")
    assert head == "MLP: task binary, input_shape (7,), output_size 1"
    assert lines == [["ok", clause] for clause in CLAUSES]
    assert code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "which network? Give its dotted path, such as unvanish.MLP, or -c RECIPE"),
        ("unvanish.MPL", "'unvanish.MPL' cannot be imported"),
        ("torch.nn.ReLU", "'torch.nn.ReLU' is no ReferenceModule: it is the class ReLU"),
        ("unvanish.MLP", "model.hidden_sizes"),
        ("unvanish.MLP --hidden_sizes=0", "hidden_sizes is [0]; every layer needs at least one unit"),
        ("unvanish.MLP --hiden_sizes=3", "unknown key 'model.hiden_sizes'; did you mean 'model.hidden_sizes'?"),
        ("unvanish.MLP -c quickstart", "either unvanish.MLP or the network of -c quickstart, not both"),
        ("-c quickstart --task binary", "--task goes with the path of a network; the data of a recipe has its own"),
        ("-c quickstart --output-size 3", "--output-size goes with the path of a network"),
        ("-c quikstart", "no recipe 'quikstart'"),
        ("unvanish.MLP --task bin", "--task: unknown task 'bin'; did you mean 'binary'?"),
        ("unvanish.MLP --input-shape 3x4", "--input-shape is '3x4'; it is whole numbers such as 3,32,32"),
        ("unvanish.MLP --output-size many", "--output-size: invalid int value: 'many'"),
    ],
)
def test_wrong_input_is_answered_in_one_line_and_2(workplace, capsys, words, message):
    assert main(["check", *shlex.split(words)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("unvanish: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not list(workplace.iterdir())
