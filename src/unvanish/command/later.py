"""torchmetrics brings a metric when it is asked for, and not all that there are whenever Lightning is imported.

Its packages import each of their modules, and with them scipy.signal, transformers and what else is installed: a
third of what `import lightning` takes.
"""

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType
from typing import Any, final

_PACKAGE = "torchmetrics"
#: It and torchmetrics.metric import each other, which goes well where this comes first.
_FIRST = f"{_PACKAGE}.utilities"


def metrics_come_later() -> None:
    """For this process, where torchmetrics is not imported yet; every name stays what it is."""
    if _PACKAGE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@final
class _Finder(MetaPathFinder):
    """Finds torchmetrics' packages, whose files are only names of what lies in others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != _PACKAGE or fullname.startswith(_FIRST):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec and spec.submodule_search_locations and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


@final
class _Package(ModuleType):
    """A package whose names are imported on first use.

    Args:
        name: Its own.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._later: dict[str, tuple[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self._later:
            module, own = self._later[name]
            value = getattr(import_module(module), own)
        elif not name.startswith("__") and find_spec(path := f"{self.__name__}.{name}"):
            value = import_module(path)
        else:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        vars(self)[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        is_module = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if not (is_module and name in self._later):  # the function ``accuracy`` is in a module of its name
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._later})


@final
class _Loader(SourceFileLoader):
    """Runs the file of a package without its imports from torchmetrics; the code is not kept as bytecode."""

    def create_module(self, spec: ModuleSpec) -> _Package:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert isinstance(module, _Package)
        tree = ast.parse(self.get_data(self.path), self.path)
        later = _Later(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        code = compile(ast.fix_missing_locations(later.visit(tree)), self.path, "exec")
        module._later.update(later.names)
        exec(code, vars(module))
        if module.__name__ == _PACKAGE:
            import_module(_FIRST)


@final
class _Later(ast.NodeTransformer):
    """Takes imports out of a file, and keeps where their names come from.

    Args:
        used: Names that the file itself uses; they are imported at once.
    """

    def __init__(self, used: Any) -> None:
        self._used = set(used)
        self.names: dict[str, tuple[str, str]] = {}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        names = {alias.asname or alias.name: alias.name for alias in node.names}
        if not node.module or not node.module.startswith(_PACKAGE) or "*" in names or not self._used.isdisjoint(names):
            return node
        if node.module != _PACKAGE:  # whose own modules it finds without
            self.names |= {name: (node.module, own) for name, own in names.items()}
        return ast.Pass()

    def visit_If(self, node: ast.If) -> ast.AST:
        """scipy.signal is imported to put a name back that srmrpy, a package of speech, asks scipy for."""
        imported = [name.name for child in node.body if isinstance(child, ast.Import) for name in child.names]
        if "scipy.signal" in imported and find_spec("srmrpy") is None:
            return ast.Pass()
        return self.generic_visit(node)
