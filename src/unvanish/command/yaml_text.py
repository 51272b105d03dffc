"""Reads YAML as recipes use it: plain values, no repeated keys, and limits on length, depth and number of values."""

import re
from typing import Any, final

import yaml

#: What no recipe comes near.
LONGEST, DEEPEST, MOST = 1_000_000, 50, 100_000


@final
class _Loader(yaml.SafeLoader):
    """Numbers as they are written: PyYAML reads 1e-3 as text, 010 as 8 and 1:30 as 90; dates are text; no key twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":int", ":float"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"it is nested more than {DEEPEST} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for index, name in enumerate(names):
            if name in names[:index]:
                mark = [key for key, _ in node.value if key.value == name][1].start_mark
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} is there twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


_FLOAT = (
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+.0123456789"))
_INT = r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(_INT), list("-+0123456789"))


def parse(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        yaml.YAMLError: it is not valid YAML, or longer, deeper or with more values than any recipe.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"it has more than {LONGEST:,} characters")
    loader = _Loader(text)
    try:
        found = loader.get_single_data()
    except ValueError as error:  # of Python's own bound
        raise yaml.YAMLError("a number has too many digits") from error
    finally:
        loader.dispose()
    _size(found, {}, set())
    return found


def _size(value: Any, known: dict[int, int], open_: set[int]) -> int:
    """The number of values, where each alias counts as everything that it stands for."""
    if value is None or isinstance(value, str | int | float):
        return 1
    if not isinstance(value, dict | list):
        raise yaml.YAMLError(f"a value is of the kind {type(value).__name__}, which no recipe has")
    if id(value) in open_:
        raise yaml.YAMLError("a value holds itself")
    if id(value) not in known:
        open_.add(id(value))
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known, open_) for part in parts)
        open_.discard(id(value))
        if known[id(value)] > MOST:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST:,} values")
    return known[id(value)]
