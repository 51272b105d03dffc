import inspect
import math
import re
from typing import get_args

import pytest

import unvanish
from unvanish.bounds import Bounded, check_bounds
from unvanish.command.errors import WrongInputError
from unvanish.command.experiment import Experiment
from unvanish.command.main import main
from unvanish.command.recipes import load
from unvanish.training import ReferenceModule

KINDS = {kind.__name__: kind for kind in Bounded.__subclasses__()}
#: The ends of each: what is within, and what is not.
ENDS = {
    "PositiveInt": ([1], [0, -3]),
    "NonNegativeInt": ([0], [-1]),
    "PositiveFloat": ([1e-30], [0.0, -0.1, math.inf, math.nan]),
    "NonNegativeFloat": ([0.0], [-1e-30, math.inf, math.nan]),
    "ClosedUnitInterval": ([0.0, 1.0], [-0.1, 1.1, math.nan]),
    "HalfOpenUnitInterval": ([0.0, 0.99], [1.0, -0.1, math.nan]),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_number_is_held_to_its_type(name):
    class Mine:
        def __init__(self, size: KINDS[name] | None = None, other: int = 0):
            check_bounds(Mine, locals(), "mine.")

    within, outside = ENDS[name]
    for value in (*within, None):
        Mine(value, other=-7)
    for value in outside:
        with pytest.raises(ValueError, match=f"^mine.size is {re.escape(str(value))}; it must be "):
            Mine(value)


def test_whoever_has_such_an_argument_holds_it_to_its_type():
    kinds = [getattr(unvanish, name) for name in unvanish.__all__ if inspect.isclass(getattr(unvanish, name))]
    having = [kind for kind in kinds if any(is_bounded(p) for p in inspect.signature(kind).parameters.values())]
    assert len(having) >= 12
    for kind in having:
        assert issubclass(kind, ReferenceModule) or "check_bounds(" in inspect.getsource(kind), kind


def is_bounded(parameter):
    kinds = (parameter.annotation, *get_args(parameter.annotation))
    return any(isinstance(kind, type) and issubclass(kind, Bounded) for kind in kinds)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--data.loading.batch_size=0", "data.loading.batch_size is 0; it must be at least 1"),
        ("--data.loading.batch_size=many", "data.loading.batch_size is 'many', expected int"),
        ("--data.loading.batch_size=2.5", "data.loading.batch_size is '2.5', expected int"),
        ("--model.training.early_stopping=0", "model.training.early_stopping is 0; it must be at least 1"),
        ("--model.training.early_stopping=soon", "model.training.early_stopping is 'soon', expected int"),
        ("--gradients.every_n_steps=0", "gradients.every_n_steps is 0; it must be at least 1"),
        ("--model.training.schedule.final=2", "model.training.schedule.final is 2; it must be between 0 and 1"),
    ],
)
def test_what_is_typed_is_answered_in_one_line_with_its_key(words, answer):
    with pytest.raises(WrongInputError) as refused:
        Experiment.parse(load(["quickstart"]), [words])
    assert str(refused.value) == answer


def test_help_shows_the_types_and_the_values_are_plain_numbers(capsys):
    assert main(["fit", "quickstart", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--data.loading.batch_size" in shown
    assert "(type: PositiveInt, default: 64)" in shown
    assert "(type: PositiveInt | null, default: null)" in shown
    words = ["--data.loading.batch_size=8", "--model.training.regularization.dropout=0.5"]
    arguments = Experiment.parse(load(["quickstart"]), words).arguments
    assert type(arguments.data.loading.batch_size) is int
    assert type(arguments.model.training.regularization.dropout) is float
