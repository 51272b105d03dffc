"""The smallest network of each family of timm, on small images and with few blocks wherever its builder allows them.

``python -m benchmarks.architectures.timm_models`` counts the parameters of all of timm's (8 minutes) and writes their
names to timm.txt: the smallest of each file of timm and each beginning of a name, two where there are many.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from benchmarks.architectures.specimen import CLASSES, CannotRunError, Specimen

LIST = Path(__file__).with_name("timm.txt")
#: A family of as many networks is shown by two of them.
MANY = 8
_BATCHES = {64: 8, 56: 8, 96: 8, 128: 4}


def names() -> list[str]:
    """Those of timm.txt, some of which another version of timm may not have."""
    return LIST.read_text(encoding="utf-8").split()


def builder(name: str) -> Callable[[], Specimen]:
    """How to build one of them."""
    return partial(_build, name)


def _build(name: str) -> Specimen:
    if not timm.is_model(name):
        raise CannotRunError(f"timm {timm.__version__} does not have it")
    error: Exception | None = None
    for arguments, sizes in _ways(name):
        try:
            model = timm.create_model(name, num_classes=CLASSES, **arguments).train()
        except Exception as reason:
            error = reason
            continue
        for size in sizes:
            specimen = Specimen(model, (torch.randn(_BATCHES.get(size, 2), 3, size, size),))
            try:
                specimen.loss()
            except Exception as reason:
                error = reason
            else:
                return specimen
    raise error or CannotRunError("no arguments are known")


def _ways(name: str) -> Iterator[tuple[dict[str, Any], tuple[int, ...]]]:
    """Arguments for the builder, and sizes of images to try with each, the smallest first."""
    configuration = timm.get_pretrained_cfg(name)
    full = configuration.input_size[-1] if configuration else 224
    small = 56 if "patch14" in name else 64
    for size in (small, 128):
        yield {"img_size": size, "depth": 4}, (size,)
        yield {"img_size": size}, (size,)
    yield {}, (64, 128, full)


def smallest() -> list[str]:
    """The names for timm.txt."""
    families: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for module in timm.list_modules():
        for name in timm.list_models(module=module):
            with torch.device("meta"):
                model = timm.create_model(name, num_classes=CLASSES)
            beginning = re.match("[a-z]*", name)
            family = module, beginning[0] if beginning else name
            families[family].append((sum(parameter.numel() for parameter in model.parameters()), name))
    chosen = [sorted(family)[: 1 + (len(family) >= MANY)] for family in families.values()]
    return sorted({name for family in chosen for _, name in family})


def version() -> str:
    """Of the library."""
    return f"timm {timm.__version__}"


if __name__ == "__main__":
    LIST.write_text("\n".join(smallest()) + "\n", encoding="utf-8")
