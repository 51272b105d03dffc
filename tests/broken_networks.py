"""Networks that break the contract of an architecture, each in one place, and their good twins."""

import math
import random

import torch
from torch import nn
from torch.nn import functional as F

from unvanish.names import lookup
from unvanish.training import ReferenceModule, Training

FUNCTIONS = {"tanh": torch.tanh, "sin": torch.sin}


class Good(ReferenceModule):
    """The twin of all that are broken."""

    def __init__(self, input_shape, output_size, width: int = 5, residual: bool = False, training=Training()):
        super().__init__(training)
        self.residual = residual
        self.input = nn.Linear(math.prod(input_shape), width)
        self.hidden = nn.Linear(width, width)
        self.dropout = nn.Dropout(training.regularization.dropout)
        self.output = nn.Linear(width, output_size)

    def forward(self, x):
        a = self.input(x.flatten(1)).tanh()
        return self.last(self.dropout(a * self.residual + self.hidden(a).tanh()))

    def last(self, a):
        z = self.output(a)
        return z.squeeze(-1) if self.settings.task == "binary" else z


class GoodText(ReferenceModule):
    """The twin of the broken ones that read tokens."""

    def __init__(self, input_shape, output_size, vocabulary_size, training=Training()):
        super().__init__(training)
        self.embedding = nn.Embedding(vocabulary_size, 5)
        self.dropout = nn.Dropout(training.regularization.dropout)
        self.output = nn.Linear(5, output_size)

    def forward(self, x):
        return self.output(self.dropout(self.mix(self.embedding(x))))

    def mix(self, h):
        return h + 0.5 * h.cumsum(dim=1)


class GoodWord(ReferenceModule):
    """The twin of the broken ones with words; without a size that it does not need."""

    def __init__(self, output_size, activation: str = "tanh", gain: float | None = None, training=Training()):
        super().__init__(training)
        self.activation = self.find(activation)
        self.gain = 1.0 if gain is None else gain
        self.hidden = nn.Linear(7, 5)
        self.dropout = nn.Dropout(training.regularization.dropout)
        self.output = nn.Linear(5, output_size)

    def find(self, name):
        return lookup("activation", name, FUNCTIONS)

    def forward(self, x):
        return self.output(self.dropout(self.activation(self.gain * self.hidden(x))))


class Tuple(Good):
    def last(self, a):
        return super().last(a), a


class ExtraAxis(Good):
    def last(self, a):
        return self.output(a).unsqueeze(-1)


class TwoAxes(Good):
    def last(self, a):
        return self.output(a)


class Softmax(Good):
    def last(self, a):
        return super().last(a).softmax(-1)


class Sigmoid(Good):
    def last(self, a):
        return super().last(a).sigmoid()


class Double(Good):
    def last(self, a):
        return super().last(a).double()


class Spare(Good):
    def __init__(self, input_shape, output_size, training=Training()):
        super().__init__(input_shape, output_size, training=training)
        self.spare = nn.Linear(2, 2)


class Cut(Good):
    def last(self, a):
        return super().last(torch.from_numpy(a.detach().numpy()))


class Infinite(Good):
    def last(self, a):
        return super().last(a) + (a.sum(-1, keepdim=True) * 0).abs().sqrt()


class Kwargs(Good):
    def __init__(self, input_shape, output_size, training=Training(), **kwargs):
        super().__init__(input_shape, output_size, training=training)


class OwnTraining(Good):
    def __init__(self, input_shape, output_size, training=Training()):
        super().__init__(input_shape, output_size, training=Training(regularization=training.regularization))


class Unseeded(Good):
    def __init__(self, input_shape, output_size, training=Training()):
        super().__init__(input_shape, output_size, training=training)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.output.weight, generator=generator)


class Constant(Good):
    def __init__(self, input_shape, output_size, training=Training()):
        super().__init__(input_shape, output_size, training=training)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))


class Noise(Good):
    def last(self, a):
        return super().last(a) + 0.1 * torch.rand(())


class PythonNoise(Good):
    def last(self, a):
        return super().last(a) * (1 + random.random())


class Memory(Good):
    before = 0.0

    def last(self, a):
        z = super().last(a) + self.before
        self.before = a.detach().mean()
        return z


class InPlace(Good):
    def forward(self, x):
        return super().forward(x.mul_(2))


class Centred(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class CentredInTraining(Good):
    def forward(self, x):
        return super().forward(x - x.mean(0) if self.training else x)


class Divided(Good):
    def last(self, a):
        return super().last(a) / len(a)


class BagOfWords(GoodText):
    def mix(self, h):
        return h + h.mean(1, keepdim=True)


class Reversed(GoodText):
    def mix(self, h):
        return h + h.flip(1) if self.training else h


class Behind(GoodText):
    def mix(self, h):
        return F.pad(h, (0, 0, 1, -1))


class Unregistered(Good):
    def __init__(self, input_shape, output_size, training=Training()):
        super().__init__(input_shape, output_size, training=training)
        self.scale = torch.rand(())

    def last(self, a):
        return super().last(a) * self.scale


class Widened(Good):
    def __init__(self, input_shape, output_size, width: int = 5, training=Training()):
        width = width + 2
        super().__init__(input_shape, output_size, width, training=training)


class NoPlainValue(Good):
    def __init__(self, input_shape, output_size, layer=nn.Tanh, training=Training()):
        super().__init__(input_shape, output_size, training=training)
        self.layer = layer()

    def last(self, a):
        return super().last(self.layer(a))


class Float32(Good):
    def last(self, a):
        return super().last(a.float())


class BackToFloat32(Good):
    def last(self, a):
        return super().last(a).float()


class Overflow(Good):
    def last(self, a):
        return super().last(a) / (a.new_tensor(1 + 2**-13) - 1)  # which bfloat16 rounds to 1


class Compiled(Good):
    def last(self, a):
        return super().last(-a if torch.compiler.is_compiling() else a)


class NoDropout(Good):
    def __init__(self, input_shape, output_size, training=Training()):
        super().__init__(input_shape, output_size, training=training)
        self.dropout = nn.Identity()


class DropoutForEver(Good):
    def last(self, a):
        return super().last(F.dropout(a, self.settings.regularization.dropout))


class Ignored(Good):
    def forward(self, x):
        return self.last(self.dropout(self.hidden(self.input(x.flatten(1)).tanh()).tanh()))


class SameWord(GoodWord):
    def find(self, name):
        super().find(name)
        return torch.tanh


class AnyWord(GoodWord):
    def find(self, name):
        return FUNCTIONS.get(name, torch.tanh)


class WordByKey(GoodWord):
    def find(self, name):
        return FUNCTIONS[name]


class UnlistedWord(GoodWord):
    def find(self, name):
        if name not in ("tanh", "relu", "gelu", "sigmoid"):
            raise ValueError("no")
        return torch.tanh


class NoGain(GoodWord):
    def __init__(self, output_size, gain: float | None = None, training=Training()):
        super().__init__(output_size, training=training)


class Asserts(Good):
    def last(self, a):
        assert self.training or len(a) > 1, "one\ntwo"
        return super().last(a)


class BrokenSwitch(Good):
    def __init__(self, input_shape, output_size, residual: bool = False, training=Training()):
        super().__init__(input_shape, output_size, residual=residual, training=training)
        assert not residual, "not yet"
