"""The numbers of ten recipes, and the runs of earlier releases, stay what they were."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import evidence
from unvanish.command.main import main

RELEASED = sorted(Path(__file__).parent.glob("releases/*/*/config.yaml"))


@pytest.fixture
def kept() -> dict:
    return json.loads(evidence.KEPT.read_text())


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", evidence.RECIPES)
def test_a_recipe_has_the_numbers_that_were_kept(name: str, kept: dict) -> None:
    exact = kept.items() >= evidence.machine().items()
    assert len(kept["recipes"][name]["loss"]) == evidence.STEPS
    assert not evidence.differences(kept["recipes"], {name: evidence.measure(name)}, exact=exact)


def test_a_last_bit_tells_where_the_machine_is_the_same_and_no_more_than_1e_9_elsewhere(kept: dict) -> None:
    found = copy.deepcopy(kept["recipes"])
    loss, delta = found["mlp/digits"]["loss"], found["cnn/digits"]["delta"]
    before = loss[1], delta.pop("output")
    loss[1] *= 1 + 1e-12
    said = [
        f"mlp/digits: loss 2 was {before[0]} and is {loss[1]}",
        f"cnn/digits: delta output was {before[1]} and is None",
    ]
    assert evidence.differences(kept["recipes"], found, exact=True) == said
    assert evidence.differences(kept["recipes"], found, exact=False) == said[1:]


@pytest.mark.slow
@pytest.mark.parametrize("config", RELEASED, ids=lambda config: "-".join(config.parts[-3:-1]))
def test_a_run_of_an_earlier_release_is_loaded_and_predicts_what_it_did(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    assert main(["predict", "-c", str(config), "--out", str(out)]) == 0
    then = pd.read_csv(config.with_name("predictions.csv"))
    now = pd.read_csv(out).head(len(then))[[*then]]
    pd.testing.assert_frame_equal(now, then, rtol=0, atol=1e-4)


def test_there_are_runs_of_earlier_releases() -> None:
    assert {config.parent.name for config in RELEASED} >= {"mlp", "recurrent", "cnn"}
