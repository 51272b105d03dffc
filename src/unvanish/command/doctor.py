"""``unvanish doctor``: prints what is installed, the devices, and what is broken and how to repair it."""

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from unvanish import trust
from unvanish.command.errors import one_line


def doctor() -> int:
    """Print the findings. Returns 1 if anything is broken, else 0."""
    print(f"python       {platform.python_version()} on {platform.platform()}")
    faults = [fault for requirement in _requirements() if (fault := _check_version(requirement))]
    # In this order: each needs the one before it, and only the first that fails tells the cause.
    for name in ("torch", "torchvision", "lightning", "torch.utils.tensorboard"):
        try:
            import_module(name)
        except (ImportError, RuntimeError, OSError) as error:
            faults.append(_diagnose(name, error))
            break
    else:
        print(f"devices      {_devices()}")
    asked = (f"{module} (by {trust.VARIABLE})" for module in trust.trusted())
    print(f"may import   {', '.join([*trust.PACKAGES, *asked])}")
    for fault in faults:
        print(f"BROKEN  {fault}")
    print("all is well" if not faults else "after mending, run `unvanish doctor` again")
    return 1 if faults else 0


def _requirements() -> list[Requirement]:
    try:
        found = requires("unvanish") or []
    except PackageNotFoundError:  # run from its folder
        print("unvanish     not installed, so what it requires is not known")
        return []
    return [r for r in map(Requirement, found) if r.marker is None]


def _check_version(requirement: Requirement) -> str | None:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is not installed: pip install '{requirement}'"
    print(f"{requirement.name:12} {found}")
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} {found} is too old or too new: pip install '{requirement}'"
    return None


def _diagnose(name: str, error: Exception) -> str:
    reason = one_line(error)
    if "torchvision::" in reason:
        return (
            f"torch {version('torch')} and torchvision {version('torchvision')} are not a pair ({reason}): "
            "pip install --upgrade --force-reinstall torch torchvision"
        )
    return f"{name} cannot be imported ({reason}): pip install --force-reinstall {name.split('.', maxsplit=1)[0]}"


def _devices() -> str:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    apple = ["Apple GPU (mps)"] if torch.backends.mps.is_available() else []
    return ", ".join([*gpus, *apple, f"CPU with {torch.get_num_threads()} threads"])
