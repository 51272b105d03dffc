"""Changes bytes of a checkpoint, and sees whether it is taken for a good one."""

import random
from collections import Counter
from pathlib import Path

import torch

from unvanish.command.checkpoints import load_checkpoint
from unvanish.command.errors import WrongInputError

#: What may come of it; the last is the one that must not.
REFUSED, SAME, OTHER = "refused in one line", "loaded, as it was", "loaded, with other content"


def damage(checkpoint: Path, folder: Path, files: int, seed: int = 0) -> Counter[str]:
    """Count what comes of files with one to four changed bytes each; every tenth is cut instead."""
    draw, whole = random.Random(seed), checkpoint.read_bytes()
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    folder.mkdir(parents=True, exist_ok=True)
    found: Counter[str] = Counter()
    for number in range(files):
        content = bytearray(whole)
        if number % 10 == 9:
            del content[draw.randrange(len(whole)) :]
        else:
            for _ in range(draw.randint(1, 4)):
                content[draw.randrange(len(whole))] ^= draw.randint(1, 255)
        path = folder / "mutated.ckpt"
        path.write_bytes(content)
        found[_fate(path, weights)] += 1
    return found


def _fate(path: Path, weights: dict[str, torch.Tensor]) -> str:
    try:
        loaded = load_checkpoint(path)["state_dict"]
    except WrongInputError as error:
        return REFUSED if "\n" not in str(error) and "\x1b" not in str(error) else "refused in several lines"
    is_same = loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)
    return SAME if is_same else OTHER
