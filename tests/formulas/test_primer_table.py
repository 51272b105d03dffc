import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import unvanish.formulas

ROOT = Path(__file__).parents[2]
ROW = (
    r"^\|.*\| \[(\w+)\]\(\.\./(src/unvanish/formulas/\w+\.py)\): (.*?)"
    r" \| \[(\w+)\]\(\.\./(tests/formulas/\w+\.py)\) \|$"
)


def test_the_primer_maps_every_formula_to_its_function_and_its_test():
    mapped = set()
    for name, source, functions, test_name, test in re.findall(
        ROW, (ROOT / "docs/PRIMER.md").read_text(), re.MULTILINE
    ):
        assert (source, test, test_name) == (
            f"src/unvanish/formulas/{name}.py",
            f"tests/formulas/test_{name}.py",
            f"test_{name}",
        )
        tested = (ROOT / test).read_text()
        for function in re.findall(r"`(\w+)`", functions):
            assert re.search(rf"\b{function}\b", tested), f"{test} does not mention {function}"
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
