"""What a recipe may name. A recipe is a program: nothing that it names is imported before it is allowed.

Allowed are a few packages, and what the user trusts: by ``--trust``, by the variable UNVANISH_TRUST, or by typing it.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_type_hints

from unvanish.names import nearest

if TYPE_CHECKING:
    from torch import nn

#: Whose classes a recipe may name. Of torch not all: it has classes that run text.
PACKAGES = ("torch.nn", "torch.optim", "torchvision", "timm", "transformers", "lightning", "unvanish")
#: Whose functions it may name as well, where they are said to return a network.
FACTORIES = ("torchvision.models", "timm")
#: Of the environment: modules with commas between them, which children of this process trust as well.
VARIABLE = "UNVANISH_TRUST"

#: What this command was told to trust, without what the environment says.
_asked: list[str] = []


class UntrustedError(ValueError):
    """A name that is not allowed; the message says how to allow it.

    Args:
        path: The name.
        why: What is wrong with it.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path


@contextmanager
def trusting(modules: Sequence[str]) -> Iterator[None]:
    """Trust modules, with all that is below them, in this process and in those that it starts meanwhile.

    Raises:
        ValueError: one is no name of a module, or of Python itself.
    """
    for module in modules:
        if not can_be_trusted(module):
            why = "is a part of Python, of which a recipe may name nothing" if _is_dotted(module) else "names no module"
            raise ValueError(f"{module!r} {why}; trust a module of yours, such as my_networks")
    before = os.environ.get(VARIABLE)
    added = [module for module in dict.fromkeys(modules) if not is_allowed(f"{module}.x")]
    os.environ[VARIABLE] = ",".join([*trusted(), *added])
    _asked.extend(added)
    is_new_place = bool(trusted()) and "" not in sys.path
    if is_new_place:
        sys.path.append("")  # a module of the user's may be a file in the current folder
    try:
        yield
    finally:
        if is_new_place:
            sys.path.remove("")
        del _asked[len(_asked) - len(added) :]
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def trusted() -> list[str]:
    """The modules that the user trusts."""
    return [name for name in map(str.strip, os.environ.get(VARIABLE, "").split(",")) if name]


def words() -> list[str]:
    """The options by which another command trusts what this one was told to."""
    return [word for module in _asked for word in ("--trust", module)]


def can_be_trusted(module: str) -> bool:
    """Whether it is a dotted name, and not Python's own."""
    return _is_dotted(module) and _top(module) not in sys.stdlib_module_names


def is_allowed(path: str) -> bool:
    """Whether a dotted name may be imported; nothing is."""
    if not can_be_trusted(path):
        return False
    if _is_below(path, trusted()) or _top(path) == "__main__":
        return True
    return _is_below(path, PACKAGES) and not re.search(r"(^|\.)_", path) and not _is_shadowed(_top(path))


def check(path: str) -> None:
    """Refuse a dotted name that may not be imported.

    Raises:
        UntrustedError: it may not.
    """
    if is_allowed(path):
        return
    top, module = _top(path), path.rpartition(".")[0]
    if not _is_dotted(path) or not module:
        raise UntrustedError(path, f"{path!r} is no dotted name, such as torchvision.models.resnet18")
    if top in sys.stdlib_module_names:
        raise UntrustedError(path, f"{path!r} is a part of Python, of which a recipe may name nothing")
    place = _place(top)
    if place is None:
        hint = nearest(top, [_top(package) for package in PACKAGES])
        raise UntrustedError(path, f"{path!r} cannot be imported: there is no module {top!r}{hint}")
    module = module if _is_below(path, map(_top, PACKAGES)) and not _is_shadowed(top) else top
    raise UntrustedError(
        path,
        f"{path!r} runs the code of {place}, and a recipe may do so only where you trust it: add --trust {module}, "
        f"or for always set {VARIABLE}={module}",
    )


def resolve(path: str, kind: type | tuple[type, ...], role: str) -> Any:
    """What a dotted name stands for: a class of a kind; or, where ``torch.nn.Module`` is one, a function that makes it.

    The name must be allowed, and so must be the module that the thing itself is of: a package's own names for what it
    imports, such as ``torch.os``, open nothing.

    Args:
        path: The name.
        kind: One class, or several, that it is to derive from.
        role: What the message calls it: optimizer, module.

    Raises:
        UntrustedError: it is not allowed.
        ValueError: there is no such thing, or it is of another kind.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    try:
        check(path)
        found = _found(path, role)
        if inspect.isclass(found) and issubclass(found, kinds):
            _check_own(path, found)
            return found
        if inspect.isfunction(inspect.unwrap(found)) and any(one.__module__.startswith("torch.nn.") for one in kinds):
            _check_own(path, found)
            _check_own(path, inspect.unwrap(found))
            if _is_below(found.__module__, FACTORIES) and _returns(found, kinds):
                return found
            if _is_own(found.__module__):
                return found
    except UntrustedError as error:
        raise UntrustedError(path, f"{role} {error}") from error
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        raise ValueError(f"{role} {path!r} is of type {type(found).__name__}, neither a class nor a function")
    wanted = kinds[0].__name__ if len(kinds) == 1 else "part of a training"
    what = f"the class {found.__name__}" if inspect.isclass(found) else "a function"
    raise ValueError(f"{role} {path!r} is no {wanted}: it is {what}")


def build_module(path: str, arguments: Mapping[str, Any]) -> "nn.Module":
    """What a dotted path names, called with ``arguments``.

    Raises:
        ValueError: there is no such thing, it is not allowed, it builds no module, or it cannot be called so.
    """
    from torch import nn  # noqa: PLC0415 - what may be named is asked before torch is imported

    factory = resolve(path, nn.Module, "module")
    try:
        built = factory(**arguments)
    except Exception as error:  # whatever somebody's class or function raises
        hint = ""
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            hint = nearest(unknown[1], list(inspect.signature(factory).parameters))
        raise ValueError(f"{path} cannot be built with {dict(arguments)}: {first_line(error)}{hint}") from error
    if not isinstance(built, nn.Module):
        raise ValueError(f"{path} gives {type(built).__name__}, not an nn.Module")
    return built


def check_object(path: str, found: Any) -> None:
    """Refuse a function or a class, however it was found, that is of no allowed module."""
    _check_own(path, inspect.unwrap(found) if callable(found) else found)


def _found(path: str, role: str) -> Any:
    try:
        found = resolve_name(path)
        if isinstance(found, ModuleType):  # torchvision.models.alexnet is a file, and the function in it
            found = vars(found).get(path.rpartition(".")[2], found)
    except AttributeError as error:
        hint = nearest(error.name or "", [name for name in dir(error.obj) if not name.startswith("_")])
        raise ValueError(f"{role} {path!r} cannot be imported: {first_line(error)}{hint}") from error
    except Exception as error:  # of a module that is imported for the first time
        raise ValueError(f"{role} {path!r} cannot be imported: {first_line(error)}") from error
    return found


def first_line(error: BaseException) -> str:
    """What kind of error it is, and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _check_own(path: str, found: Any) -> None:
    own = getattr(found, "__module__", None) or "builtins"
    if _is_below(own, PACKAGES) or _is_own(own):
        return
    name = f"{own}.{getattr(found, '__qualname__', type(found).__qualname__)}"
    if _top(own) in sys.stdlib_module_names or not _is_dotted(own):
        raise UntrustedError(path, f"{path!r} is {name}, a part of Python, of which a recipe may name nothing")
    raise UntrustedError(path, f"{path!r} is {name}, of a module that you have not trusted: --trust {_top(own)} does")


def _is_own(module: str) -> bool:
    """Whether it is a module of the user's: one that is trusted, or the program itself."""
    return module == "__main__" or _top(module) in map(_top, trusted())


def _is_dotted(path: Any) -> bool:
    return isinstance(path, str) and all(part.isidentifier() for part in path.split("."))


def _is_below(path: str, modules: Any) -> bool:
    return any(path == module or path.startswith(f"{module}.") for module in modules)


def _top(path: str) -> str:
    return path.partition(".")[0]


def _returns(function: Any, kinds: tuple[type, ...]) -> bool:
    with suppress(Exception):  # an annotation may be anything
        returned = get_type_hints(inspect.unwrap(function)).get("return")
        return inspect.isclass(returned) and issubclass(returned, kinds)
    return False


def _place(top: str) -> str | None:
    """The file or folder of a module that is not imported; None where there is none."""
    if top == "__main__":
        return top
    spec = PathFinder.find_spec(top, [*sys.path, ""])
    if spec is None:
        return None
    origin = spec.origin or next(iter(spec.submodule_search_locations or []), None) or top
    path = Path(origin)
    path = path.parent if path.name == "__init__.py" else path
    with suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return top


def _is_shadowed(top: str) -> bool:
    """Whether the current folder has a module of an allowed package's name that would be imported in its place."""
    if top in sys.modules:
        return False
    spec = PathFinder.find_spec(top, [*sys.path])
    origin = Path(spec.origin) if spec and spec.origin else None
    if origin is None:
        return False
    folder = origin.parent.parent if origin.name == "__init__.py" else origin.parent
    return folder.resolve() == Path.cwd()
