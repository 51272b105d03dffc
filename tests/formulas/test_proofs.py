"""Each formula is held to its proof, the one that holds the exercises; and a proof refuses what is nearly right."""

from importlib import import_module

import pytest
import torch

from unvanish.exercises import EXERCISES, check
from unvanish.exercises.hints import formula

EACH = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.function)


@pytest.mark.slow
@EACH
def test_a_formula_holds_its_proof(exercise):
    getattr(import_module(f"unvanish.exercises.proofs.{exercise.module}"), exercise.function)(formula(exercise))


def off(found):
    """What was found with its last number a millionth off; true for false, and the other way round."""
    if isinstance(found, list | tuple):
        changed = [*found]
        place = next((k for k in reversed(range(len(changed))) if not is_empty(changed[k])), None)
        if place is not None:
            changed[place] = off(changed[place])
        return changed
    if isinstance(found, torch.Tensor):
        changed = found.detach().clone()
        if changed.numel():
            last = (-1,) * changed.dim()
            changed[last] = ~changed[last] if changed.dtype == torch.bool else changed[last] * (1 + 1e-6) + 1
        return changed
    return found * (1 + 1e-6) + 1e-6


def is_empty(found):
    return found is None or (isinstance(found, list | tuple) and all(map(is_empty, found)))


def louder(found):
    """Of a draw, whose numbers are any: of more variance."""
    return 1.2 * found


@EACH
def test_a_proof_refuses_one_wrong_number_in_one_line(exercise):
    change = louder if exercise.function == "draw_normal" else off
    result = check(exercise.name, lambda *arguments: change(formula(exercise)(*arguments)))
    assert not result, "the proof holds what is wrong"
    assert "raises" not in result.difference, result
    assert "\n" not in repr(result)
