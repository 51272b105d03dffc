import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import unvanish.formulas
from unvanish.exercises import EXERCISES

ROOT = Path(__file__).parents[2]
ROW = (
    r"^\|.*\| \[(\w+)\]\(\.\./(src/unvanish/formulas/\w+\.py)\): (.*?)"
    r" \| \[(\w+)\]\(\.\./(src/unvanish/exercises/proofs/\w+\.py)\) \|$"
)


def test_the_primer_maps_every_formula_to_its_function_and_its_proof():
    mapped = set()
    for name, source, functions, proof_name, proof in re.findall(
        ROW, (ROOT / "docs/PRIMER.md").read_text(), re.MULTILINE
    ):
        assert (source, proof, proof_name) == (
            f"src/unvanish/formulas/{name}.py",
            f"src/unvanish/exercises/proofs/{name}.py",
            name,
        )
        proofs = import_module(f"unvanish.exercises.proofs.{name}")
        for function in re.findall(r"`(\w+)`", functions):
            assert inspect.isfunction(getattr(proofs, function, None)), f"{proof} has no proof of {function}"
            mapped.add((name, function))
    there = set()
    for file in pkgutil.iter_modules(unvanish.formulas.__path__):
        if file.name.startswith("_"):
            continue
        module = import_module(f"unvanish.formulas.{file.name}")
        for function, found in inspect.getmembers(module, inspect.isfunction):
            if found.__module__ == module.__name__ and not function.startswith("_"):
                there.add((file.name, function))
    assert mapped == there
    exercises = [(exercise.module, exercise.function) for exercise in EXERCISES.values()]
    assert sorted(exercises) == sorted(there)  # each formula is one
