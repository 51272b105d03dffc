"""Programs that rows of facts cannot say: other losses, other ways to train, other wirings.

Each is a function that a case of kind python names. Shapes: B a batch, F features, D a width.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import Adam, Optimizer

from benchmarks.faults.data import Data, data_of
from benchmarks.faults.metric import predictions
from benchmarks.faults.program import Program, Turn

Batch = tuple[Tensor, Tensor]


def digits(size: int, scaling: float = 16.0) -> tuple[Data, Callable[[], Batch]]:
    """The 8 x 8 digits (n, 64), and what draws a batch of them: images and labels (B,)."""
    data = data_of({"data": {"kind": "digits", "scaling": scaling}}, 0, Path())

    def draw() -> Batch:
        chosen = torch.randint(len(data.x), (size,))
        return data.x[chosen], data.y[chosen].argmax(-1)

    return data, draw


def trained(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[], Tensor],
    steps: int,
    measure: Callable[[], float],
    schedule: Callable[[int], float] | None = None,
) -> Program:
    """A program of one optimizer; ``schedule`` gives the factor of its learning rate at each step."""

    def turns() -> Iterator[Turn]:
        rate = optimizer.param_groups[0]["lr"]
        for step in range(steps):
            if schedule:
                optimizer.param_groups[0]["lr"] = rate * schedule(step)
            optimizer.zero_grad()
            yield Turn(loss(), optimizer)

    return Program(model, turns(), steps, measure)


def accuracy(model: nn.Module, data: Data) -> float:
    """The share of the held samples of which the largest score is right."""
    return (predictions(model, data.x_valid).argmax(-1) == data.y_valid.argmax(-1)).float().mean().item()


def classifier(
    model: nn.Module, steps: int, learning_rate: float = 1e-3, size: int = 32, smoothing: float = 0.0, warmup: int = 0
) -> Program:
    """Cross-entropy on the digits, perhaps with smoothed labels and a learning rate that begins at zero."""
    data, draw = digits(size)

    def loss() -> Tensor:
        x, y = draw()
        return F.cross_entropy(model(x), y, label_smoothing=smoothing)

    return trained(
        model,
        Adam(model.parameters(), learning_rate),
        loss,
        steps,
        lambda: accuracy(model, data),
        (lambda step: min(1.0, (step + 1) / warmup)) if warmup else None,
    )


def label_smoothing(steps: int) -> Program:
    """The loss stays far above zero by design."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return classifier(model, steps, 3e-3, smoothing=0.2, warmup=50)


def weight_normed(steps: int) -> Program:
    """Directions and lengths of weights are parameters of their own."""
    model = nn.Sequential(weight_norm(nn.Linear(64, 64)), nn.Tanh(), weight_norm(nn.Linear(64, 10)))
    return classifier(model, steps, 1e-2)


class Images(nn.Module):
    """(B, 64) to (B, channels, side, side)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.channels, self.side = channels, side

    def forward(self, x: Tensor) -> Tensor:
        images = F.interpolate(x.reshape(-1, 1, 8, 8), size=self.side, mode="bilinear")
        return images.expand(-1, self.channels, -1, -1)


def resnet18(steps: int) -> Program:
    """torchvision's, from scratch, on digits of 16 x 16."""
    return classifier(nn.Sequential(Images(3, 16), torchvision.models.resnet18(num_classes=10)), steps, 1e-3)


class Block(nn.Module):
    """Pre-norm, two layers, and a path around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(x + self.inner(x))


def residual(steps: int, blocks: int = 16) -> Program:
    """A deep stack of residual blocks."""
    width = 32
    return classifier(
        nn.Sequential(nn.Linear(64, width), *(Block(width) for _ in range(blocks)), nn.Linear(width, 10)), steps
    )


def mixture(steps: int) -> Program:
    """Four experts, their scores mixed by a gate."""
    return classifier(_Mixture(), steps, 3e-3)


class _Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.stack([expert(x) for expert in self.experts], 1)
        return torch.einsum("be,bec->bc", self.gate(x).softmax(-1), scores)


def two_heads(steps: int) -> Program:
    """One trunk; one head names the digit, the other counts its ink."""
    data, draw = digits(32)
    trunk, name, ink = nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10), nn.Linear(64, 1)
    model = nn.ModuleDict({"trunk": trunk, "name": name, "ink": ink})

    def loss() -> Tensor:
        x, y = draw()
        h = trunk(x)
        return F.cross_entropy(name(h), y) + F.mse_loss(ink(h), x.mean(1, keepdim=True))

    named = nn.Sequential(trunk, name)
    return trained(model, Adam(model.parameters(), 2e-3), loss, steps, lambda: accuracy(named, data))


class Adapter(nn.Module):
    """A frozen layer, and beside it two thin ones of which the second begins at zero (LoRA)."""

    def __init__(self, layer: nn.Linear, rank: int, is_silent: bool) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down, self.up = nn.Linear(layer.in_features, rank, False), nn.Linear(rank, layer.out_features, False)
        nn.init.zeros_(self.up.weight)
        if is_silent:
            nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.layer(x) + self.up(self.down(x)))


def adapters(steps: int, is_silent: bool = False) -> Program:
    """A network that knows five digits learns all ten by adapters; where both parts are zero, nothing moves."""
    data, draw = digits(32)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = Adam(model.parameters(), 3e-3)
    for _ in range(200):
        x, y = draw()
        optimizer.zero_grad()
        F.cross_entropy(model(x)[y < 5], y[y < 5]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for index in (0, 2, 4):
        layer = model[index]
        assert isinstance(layer, nn.Linear)
        model[index] = Adapter(layer, 8, is_silent)

    def loss() -> Tensor:
        x, y = draw()
        return F.cross_entropy(model(x), y)

    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return trained(model, Adam(tuned, 3e-3), loss, steps, lambda: accuracy(model, data))


def distillation(steps: int) -> Program:
    """A small student learns the soft labels of a teacher, who knows the digits already."""
    data, draw = digits(64)
    teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = Adam(teacher.parameters(), 3e-3)
    for _ in range(200):
        x, y = draw()
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    teacher.requires_grad_(False)
    student = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

    def loss() -> Tensor:
        x, _ = draw()
        heat = 3.0
        return heat**2 * F.kl_div(
            (student(x) / heat).log_softmax(-1), (teacher(x) / heat).softmax(-1), reduction="batchmean"
        )

    return trained(student, Adam(student.parameters(), 5e-3), loss, steps, lambda: accuracy(student, data))


def bandit(steps: int, learning_rate: float = 3e-3) -> Program:
    """A policy gradient: the loss is the score of an action times how much better than usual it was, 0 on average."""
    truth = torch.randn(8, 4)
    policy = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
    context = torch.randn(500, 8)

    def loss() -> Tensor:
        x = torch.randn(64, 8)
        choice = torch.distributions.Categorical(logits=policy(x))
        action = choice.sample()  # type: ignore[no-untyped-call]
        reward = ((x @ truth).argmax(-1) == action).float()
        score: Tensor = choice.log_prob(action)  # type: ignore[no-untyped-call]
        return -torch.mean(score * (reward - reward.mean()))

    def measure() -> float:
        return (predictions(policy, context).argmax(-1) == (context @ truth).argmax(-1)).float().mean().item()

    return trained(policy, Adam(policy.parameters(), learning_rate), loss, steps, measure)


def ranking(steps: int) -> Program:
    """The better of two is to have the higher score; the loss is their difference, negative once it is learnt."""
    truth = torch.randn(6)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh())
    held = torch.randn(500, 2, 6)

    def sort(pairs: Tensor) -> tuple[Tensor, Tensor]:
        better = (pairs @ truth).argmax(1)
        rows = torch.arange(len(pairs))
        return pairs[rows, better], pairs[rows, 1 - better]

    def loss() -> Tensor:
        better, worse = sort(torch.randn(32, 2, 6))
        return torch.mean(model(worse) - model(better))

    def measure() -> float:
        better, worse = sort(held)
        return (predictions(model, better) > predictions(model, worse)).float().mean().item()

    return trained(model, Adam(model.parameters(), 3e-3), loss, steps, measure)


def contrast(steps: int) -> Program:
    """Two noisy views of a digit are to find each other among all of a batch (InfoNCE)."""
    data, draw = digits(64)
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def scores(x: Tensor) -> Tensor:
        first, second = (F.normalize(encoder(x + 0.15 * torch.randn_like(x)), dim=-1) for _ in range(2))
        return first @ second.T / 0.2

    def loss() -> Tensor:
        x, _ = draw()
        return F.cross_entropy(scores(x), torch.arange(len(x)))

    def measure() -> float:
        with torch.no_grad():
            x = data.x_valid[:100]
            return (scores(x).argmax(-1) == torch.arange(len(x))).float().mean().item()

    return trained(encoder, Adam(encoder.parameters(), 3e-3), loss, steps, measure)


def nodes(steps: int) -> Program:
    """A graph convolution over four communities, two nodes of each with a label, all nodes one batch."""
    block = torch.arange(100) % 4
    edges = (torch.rand(100, 100) < torch.where(block[:, None] == block, 0.4, 0.03)).float().triu(1)
    edges = edges + edges.T + torch.eye(100)
    mix = edges / edges.sum(1, keepdim=True)
    first, second = nn.Linear(100, 16), nn.Linear(16, 4)
    model = nn.ModuleList([first, second])

    def scores() -> Tensor:
        return torch.as_tensor(mix @ second((mix @ first(torch.eye(100))).relu()))

    def measure() -> float:
        with torch.no_grad():
            return (scores()[8:].argmax(-1) == block[8:]).float().mean().item()

    return trained(
        model, Adam(model.parameters(), 1e-2), lambda: F.cross_entropy(scores()[:8], block[:8]), steps, measure
    )
