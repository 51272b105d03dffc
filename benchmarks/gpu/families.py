"""Every family of networks, of a size that trains in seconds, and a fixed batch for each.

Shapes: B samples.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.page import Settings
from unvanish import CNN, MLP, CompactCNN, Recurrent, Training, Transformer, Wrap
from unvanish.training import ReferenceModule

CLASSES, WORDS = 10, 65


class Family(NamedTuple):
    """How to build a network, the shape of its inputs, and how many samples a batch has.

    Args:
        build: The network, on the CPU.
        shape: Axes of a sample.
        batch_size: B.
        is_text: Whether a sample is tokens.
        predicts_tokens: Whether there is an answer to each of them.
        is_convolutional: Whether channels_last means something to it.
    """

    build: Callable[[], ReferenceModule]
    shape: tuple[int, ...]
    batch_size: int
    is_text: bool = False
    predicts_tokens: bool = False
    is_convolutional: bool = False

    def model(self, settings: Settings) -> ReferenceModule:
        """The network on the device, the same at each call."""
        torch.manual_seed(0)
        return self.build().to(settings.device)

    def batch(self, settings: Settings) -> tuple[Tensor, Tensor]:
        """A batch (x, y) to be learnt: each class has its pattern or token, under noise; or the next letter."""
        generator = torch.Generator().manual_seed(0)
        size = (8 if settings.quick else self.batch_size, *self.shape)
        y = torch.randint(CLASSES, size[:1], generator=generator)
        if self.is_text:
            noise = torch.randint(WORDS, size, generator=generator)
            x = torch.where(torch.rand(size, generator=generator) < 0.5, y[:, None] + 1, noise)
        else:
            patterns = torch.randn(CLASSES, *self.shape, generator=generator)
            x = patterns[y] + 0.5 * torch.randn(size, generator=generator)
        if self.predicts_tokens:
            y = (x + 1) % WORDS
        return x.to(settings.device), y.to(settings.device)


def _recurrent(cell: str) -> Family:
    return Family(lambda: Recurrent((28, 28), CLASSES, 128, 2, cell=cell), (28, 28), 256)


FAMILIES = {
    "MLP": Family(lambda: MLP((784,), CLASSES, 512, 4), (784,), 512),
    "CNN": Family(lambda: CNN((3, 32, 32), CLASSES, num_layers=8, width=32), (3, 32, 32), 256, is_convolutional=True),
    "CompactCNN": Family(
        lambda: CompactCNN((1, 28, 28), CLASSES, channels=[16, 32, 64]), (1, 28, 28), 256, is_convolutional=True
    ),
    "Recurrent rnn": _recurrent("rnn"),
    "Recurrent lstm": _recurrent("lstm"),
    "Recurrent gru": _recurrent("gru"),
    "Transformer decoder": Family(
        lambda: Transformer((64,), WORDS, 128, 2, vocabulary_size=WORDS, training=Training("next_token")),
        (64,),
        128,
        is_text=True,
        predicts_tokens=True,
    ),
    "Transformer encoder": Family(
        lambda: Transformer((64,), CLASSES, 128, 2, vocabulary_size=WORDS, padding_index=0), (64,), 128, is_text=True
    ),
    "Transformer vision": Family(lambda: Transformer((1, 28, 28), CLASSES, 128, 2, patch_size=7), (1, 28, 28), 256),
    "Wrap resnet18": Family(
        lambda: Wrap((3, 64, 64), CLASSES, "torchvision.models.resnet18"), (3, 64, 64), 128, is_convolutional=True
    ),
}
