"""What each room may know; which of them imports which is held by import-linter."""

import subprocess
import sys
from pathlib import Path

import pytest

from unvanish.gradients import GradientMonitor, JsonLines
from unvanish.gradients.quantities import QUANTITIES, Reduction

ROOM = Path(sys.modules["unvanish.gradients"].__file__).parent


@pytest.mark.slow
def test_the_instrument_needs_torch_and_numpy_alone():
    code = (
        "import sys, unvanish.gradients as g; g.GradientRecorder; g.Report; g.diagnose; "
        "print([m for m in ('lightning', 'tensorboard', 'matplotlib', 'transformers', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_needs_more_brings_it_on_first_use():
    assert GradientMonitor.__name__ == "GradientMonitor"
    assert JsonLines.__name__ == "JsonLines"
    with pytest.raises(AttributeError, match="no attribute 'GradientMoniter'"):
        sys.modules["unvanish.gradients"].GradientMoniter  # noqa: B018


@pytest.mark.parametrize("name", ["recorder", "hooks", "ranks", "weights"])
def test_no_quantity_is_known_by_name_where_it_is_collected(name):
    text = (ROOM / f"{name}.py").read_text(encoding="utf-8")
    assert not [quantity.name for quantity in QUANTITIES if f'"{quantity.name}"' in text]


def test_the_table_is_whole():
    assert len({quantity.name for quantity in QUANTITIES}) == len(QUANTITIES) > 10
    for quantity in QUANTITIES:
        assert (quantity.moment is None) == (quantity.read is None), quantity.name
        assert quantity.title, quantity.name
        assert all(bool(field.finish) == (field.reduction is Reduction.MAX) for field in quantity.fields)
