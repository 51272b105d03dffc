"""Small images that can be told apart, in folders by class."""

import numpy as np
import torch
from PIL import Image

HEIGHT, WIDTH = 5, 7
COUNTS = {"cat": 13, "dog": 17, "owl": 23}


def pixels(number):
    """A picture like no other."""
    return np.random.default_rng(number).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)


def write(folder, counts=COUNTS, start=0):
    """Numbered PNG files in a folder for each class; what each number's class is."""
    labels = {}
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for _ in range(count):
            number = start + len(labels)
            Image.fromarray(pixels(number)).save(folder / name / f"{number:03}.png")
            labels[number] = label
    return labels


def cut_short(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def read(data):
    return data.splits


def numbers(x):
    """Which pictures these are."""
    known = {pixels(number).transpose(2, 0, 1).tobytes(): number for number in range(200)}
    return [known[image.numpy().tobytes()] for image in x]


def same(first, second):
    """Whether two lists of batches hold the same tensors."""
    return len(first) == len(second) and all(
        len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(first, second, strict=True)
    )
