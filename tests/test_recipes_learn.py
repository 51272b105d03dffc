import re

import pytest

from unvanish.command import recipes
from unvanish.command.main import main

pytestmark = pytest.mark.slow

RESULT = re.compile(r"test/(\w+) ([\d.]+) \+- ([\d.]+)")


NAMES = (
    "quickstart",
    "mlp/digits",
    "mlp/breast_cancer",
    "mlp/wine",
    "mlp/iris",
    "mlp/diabetes",
    "recurrent/sunspots",
    "recurrent/adding_lstm",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_what_its_head_says(name, workplace, capsys):
    head = next(line for line in recipes.locate(name).read_text().splitlines() if line.startswith("# expect:"))
    assert main(["fit", "-c", name]) == 0
    assert main(["test", "-c", name]) == 0
    shown = capsys.readouterr().out
    expected = RESULT.findall(head)
    assert expected
    for metric, mean, deviation in expected:
        found = float(re.search(rf"test/{metric} +([\d.]+)", shown)[1])
        # Three standard deviations of three seeds, and the rounding of other machines on top.
        assert found == pytest.approx(float(mean), abs=3 * float(deviation) + 0.01)
