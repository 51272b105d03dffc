"""Networks of which it is known what their gradient does: trained for ten steps on real digits, and judged.

Prints what should be said, what is said, and how many are right.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from unvanish import MLP, GradientRecorder, Images, Loading
from unvanish.gradients import Report, Verdict
from unvanish.gradients.judge.diagnosis import table

CLASSES, BATCH, STEPS = 10, 64, 10


class Case(NamedTuple):
    """A network, and what is known of it.

    Args:
        truth: The name of the gravest finding.
        why: How it is known.
        build: The network.
        learning_rate: Of plain SGD; where it is 0, no step is made, and the network is judged as it is initialized.
        input_scale: Factor of the inputs, which have mean 0 and standard deviation 1.
    """

    truth: str
    why: str
    build: Callable[[], nn.Module]
    learning_rate: float = 0.0
    input_scale: float = 1.0


def mlp(num_layers: int, activation: str, initialization: str = "auto", scale: float = 1.0, **fixes) -> MLP:
    """An MLP of width 64, its hidden weights ``scale`` times as large as the initialization says."""
    model = MLP((1, 8, 8), CLASSES, 64, num_layers, activation, initialization, **fixes)
    with torch.no_grad():
        for layer in model.hidden.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(scale)
    return model


def drowned() -> MLP:
    """Biases of -30 keep every ReLU of the second layer shut."""
    model = mlp(5, "relu")
    nn.init.constant_(model.hidden[1].linear.bias, -30.0)
    return model


class CNN(nn.Module):
    """3x3 convolutions, plain or with batch normalization and residual connections."""

    def __init__(self, depth: int, is_residual: bool):
        super().__init__()
        self.enter = nn.Conv2d(1, 16, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(depth))
        norms = (nn.BatchNorm2d(16) if is_residual else nn.Identity() for _ in range(depth))
        self.norms = nn.ModuleList(norms)
        self.is_residual = is_residual
        self.leave = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = self.enter(x).relu()
        for layer, norm in zip(self.layers, self.norms, strict=True):
            a = norm(layer(x)).relu()
            x = x + a if self.is_residual else a
        return self.leave(x.mean((2, 3)))


class Rows(nn.Module):
    """Reads an image pixel by pixel, and answers after the last."""

    def __init__(self, cell: nn.RNNBase):
        super().__init__()
        self.cell = cell
        self.leave = nn.Linear(cell.hidden_size, CLASSES)

    def forward(self, x):
        return self.leave(self.cell(x.flatten(1).unsqueeze(-1))[0][:, -1])


def rnn(scale: float) -> Rows:
    """ReLU units whose recurrent weights are ``scale`` times the identity (Le et al. 2015)."""
    cell = nn.RNN(1, 32, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        cell.weight_hh_l0.copy_(scale * torch.eye(32))
    return Rows(cell)


class Transformer(nn.Module):
    """Image rows as tokens."""

    def __init__(self, depth: int):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.leave = nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.embed(x.squeeze(1))
        for block in self.blocks:
            x = block(x)
        return self.leave(x.mean(1))


CASES = {
    "20 sigmoid layers": Case(
        "vanishing", "0.144 a layer: 0.25 by sigma', 1/sqrt(3) by W", lambda: mlp(20, "sigmoid", "default"), 0.1
    ),
    "20 sigmoid layers, BatchNorm": Case(
        "healthy", "BatchNorm keeps the scale", lambda: mlp(20, "sigmoid", "default", normalization="batch"), 0.1
    ),
    "50 ReLU layers, 4 times He": Case("exploding", "4 a layer", lambda: mlp(50, "relu", "he_normal", 4.0)),
    "50 ReLU layers, He": Case("healthy", "1 a layer (He 2015)", lambda: mlp(50, "relu", "he_normal")),
    "4 ReLU layers, learning rate 10": Case("dead", "the first steps push units below 0", lambda: mlp(4, "relu"), 10.0),
    "4 ReLU layers, learning rate 0.1": Case("healthy", "shallow, He", lambda: mlp(4, "relu"), 0.1),
    "30 ReLU layers, torch's default": Case("vanishing", "0.41 a layer (He 2015)", lambda: mlp(30, "relu", "default")),
    "30 ReLU layers, Xavier": Case("vanishing", "0.71 a layer (He 2015)", lambda: mlp(30, "relu", "xavier_normal")),
    "15 tanh layers, Xavier": Case("healthy", "near 1 a layer (Glorot 2010)", lambda: mlp(15, "tanh"), 0.1),
    "5 tanh layers, 100 times Xavier": Case(
        "weights that begin too large", "|z| is near 100", lambda: mlp(5, "tanh", scale=100.0)
    ),
    "2 sigmoid layers, inputs of 1000": Case(
        "inputs that are not scaled",
        "|z| is near 1000 in the first layer",
        lambda: mlp(2, "sigmoid"),
        input_scale=1000.0,
    ),
    "5 ReLU layers, a bias of -30": Case("dead", "no unit of the second layer is ever positive", drowned),
    "60 ReLU layers, BatchNorm": Case(
        "exploding", "1.22 a layer at batch 64 (Yang 2019)", lambda: mlp(60, "relu", normalization="batch")
    ),
    "30 plain convolutions": Case("vanishing", "0.41 a layer, as without sharing", lambda: CNN(30, is_residual=False)),
    "30 residual convolutions": Case("healthy", "1 + F' (He 2016)", lambda: CNN(30, is_residual=True), 0.1),
    "tanh RNN over 64 pixels": Case(
        "vanishing through time", "|W_hh| < 1 (Bengio 1994)", lambda: Rows(nn.RNN(1, 32, batch_first=True)), 0.1
    ),
    "identity RNN over 64 pixels": Case("healthy", "W_hh = 1 (Le 2015)", lambda: rnn(1.0)),
    "RNN over 64 pixels, W_hh = 1.5": Case("exploding through time", "1.5 a time step", lambda: rnn(1.5)),
    "12 Transformer blocks, pre-LN": Case("healthy", "Xiong 2020", lambda: Transformer(12), 0.1),
    "4 ReLU layers, learning rate 1e20": Case("nan", "the second step overflows", lambda: mlp(4, "relu"), 1e20),
}


def judge_case(case: Case) -> Verdict:
    """Train for ten steps, and judge."""
    torch.manual_seed(0)
    model = case.build()
    optimizer = torch.optim.SGD(model.parameters(), case.learning_rate)
    batches = list(Images("digits", loading=Loading(batch_size=BATCH)).train_dataloader())
    report = Report()
    with GradientRecorder(model) as recorder:
        for step, (x, y) in enumerate(batches[:STEPS]):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(case.input_scale * x), y)
            recorder.before_backward(loss)
            loss.backward()
            recorder.before_step(step)
            if case.learning_rate:
                optimizer.step()
                recorder.after_step(optimizer)
        report.add(recorder.flush())
    return report.end


def main() -> None:
    """Print the table."""
    found = {name: judge_case(case) for name, case in CASES.items()}
    rows = [
        (name, case.truth, found[name].name, f"{found[name].factor_per_layer:.3g}", case.why)
        for name, case in CASES.items()
    ]
    print(table(("network", "truth", "verdict", "factor a layer", "how it is known"), rows))
    right = sum(found[name].name == case.truth for name, case in CASES.items())
    print(f"\n{right} of {len(CASES)} verdicts are right")
    for name, verdict in found.items():
        if verdict.name != CASES[name].truth:
            print(f"{name}: {verdict}")


if __name__ == "__main__":
    main()
