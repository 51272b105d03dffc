"""A page for each room with every public name: what its ``__all__`` or, of formulas, its modules hold."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

#: By module: its title.
ROOMS = {
    "unvanish.networks": "Networks",
    "unvanish.training": "Training",
    "unvanish.data": "Data",
    "unvanish.gradients": "Gradients",
    "unvanish.gradients.theory": "Theory",
    "unvanish.command.trained": "A trained run",
    "unvanish.command.compare.api": "A comparison",
    "unvanish.exercises": "Exercises",
    "unvanish.testing": "The contract of an architecture",
    "unvanish.formulas": "Formulas",
}


def write(folder: Path) -> None:
    """Write api_<room>.md, and api.md with all names."""
    index = [
        "# API",
        "Every public name. Most programs need only those of `unvanish` itself:",
        _top_level(),
    ]
    for room, title in ROOMS.items():
        page = f"api_{room.removeprefix('unvanish.').replace('.', '_')}"
        module = import_module(room)
        modules = [room]
        if room == "unvanish.formulas":
            found = [each.name for each in pkgutil.iter_modules(module.__path__)]
            modules = [f"{room}.{name}" for name in found if not name.startswith("_")]
        parts = [f"# {title}"]
        for name in modules:
            parts += [f"## {name}"] if len(modules) > 1 else []
            parts.append(_documented(name))
        (folder / f"{page}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        index.append(f"- [{title}]({page}.md): `{room}`")
    (folder / "api.md").write_text("\n\n".join(index[:3]) + "\n\n" + "\n".join(index[3:]) + "\n", encoding="utf-8")


def names_of(module_name: str) -> list[str]:
    """The public names of a module, in their order."""
    module = import_module(module_name)
    if hasattr(module, "__all__"):
        return list(module.__all__)
    members = inspect.getmembers(module, lambda found: inspect.isfunction(found) or inspect.isclass(found))
    own = [(name, found) for name, found in members if found.__module__ == module_name and not name.startswith("_")]
    return sorted(dict(own), key=lambda name: inspect.getsourcelines(dict(own)[name])[1])


def _documented(module_name: str) -> str:
    module = import_module(module_name)
    lines = ["```{eval-rst}", f".. automodule:: {module_name}", "   :no-members:", ""]
    for name in names_of(module_name):
        found = getattr(module, name)
        if inspect.isclass(found):
            hidden = "   :exclude-members: __init__, __new__"
            lines += [f".. autoclass:: {module_name}.{name}", "   :members:", hidden, ""]
        elif inspect.isfunction(found):
            lines += [f".. autofunction:: {module_name}.{name}", ""]
        else:
            keys = f", by {', '.join(map(str, found))}" if isinstance(found, dict) else ""
            lines += [f".. py:data:: {module_name}.{name}", "", f"   A {type(found).__name__}{keys}.", ""]
    return "\n".join([*lines, "```"])


def _top_level() -> str:
    import unvanish  # noqa: PLC0415

    return ", ".join(f"`{name}`" for name in unvanish.__all__)
