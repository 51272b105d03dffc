"""Programs that make something: samples, pictures, sequences. Shapes: B a batch, T time steps, D a width."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from benchmarks.faults.metric import predictions
from benchmarks.faults.program import Program, Turn
from benchmarks.faults.programs import digits, trained


def _unexplained(model: nn.Module, x: Tensor, target: Tensor) -> float:
    """The mean squared error over the variance of the target."""
    error = torch.mean((predictions(model, x) - target).square())
    return float(error / target.var(0, correction=0).mean())


def autoencoder(steps: int) -> Program:
    """64 pixels through 8 numbers."""
    data, draw = digits(32)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64)
    )

    def loss() -> Tensor:
        x, _ = draw()
        return F.mse_loss(model(x), x)

    held = data.x_valid
    return trained(model, Adam(model.parameters(), 3e-3), loss, steps, lambda: _unexplained(model, held, held))


class Tied(nn.Module):
    """One weight, forth and back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 64) / 8)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight).tanh() @ self.weight


def tied_autoencoder(steps: int) -> Program:
    """The decoder is the encoder's weight, transposed."""
    data, draw = digits(32)
    model = Tied()

    def loss() -> Tensor:
        x, _ = draw()
        return F.mse_loss(model(x), x)

    held = data.x_valid
    return trained(model, Adam(model.parameters(), 3e-3), loss, steps, lambda: _unexplained(model, held, held))


class Variational(nn.Module):
    """Encodes as a mean and a log-variance; decodes a sample of them, in eval mode the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
        self.divergence = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        self.divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean() / 2
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return torch.as_tensor(self.decoder(mean + (log_variance / 2).exp() * noise))


def variational(steps: int) -> Program:
    """A variational autoencoder: two terms that pull in different directions."""
    data, draw = digits(64)
    model = Variational()

    def loss() -> Tensor:
        x, _ = draw()
        return F.mse_loss(model(x), x, reduction="sum") / len(x) * 10 + model.divergence

    held = data.x_valid
    return trained(model, Adam(model.parameters(), 3e-3), loss, steps, lambda: _unexplained(model, held, held))


class Denoiser(nn.Module):
    """Down, up, and a path across; the noise is what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x).relu()
        return torch.as_tensor(self.last(torch.cat([first, self.up(self.down(first).relu()).relu()], 1)))


def denoiser(steps: int) -> Program:
    """Takes the noise out of digits (B, 1, 8, 8)."""
    data, draw = digits(32)
    model = Denoiser()
    noise = 0.5 * torch.randn(len(data.x_valid), 1, 8, 8)

    def loss() -> Tensor:
        x = draw()[0].reshape(-1, 1, 8, 8)
        added = 0.5 * torch.randn_like(x)
        return F.mse_loss(model(x + added), added)

    held = data.x_valid.reshape(-1, 1, 8, 8) + noise
    return trained(model, Adam(model.parameters(), 3e-3), loss, steps, lambda: _unexplained(model, held, noise))


def adversaries(steps: int, learning_rate: float = 2e-3) -> Program:
    """Two networks, each with an optimizer of its own, about points around (2, -1); it counts how many come near."""
    generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    model = nn.ModuleDict({"generator": generator, "critic": critic})
    makes, judges = (Adam(part.parameters(), learning_rate, (0.5, 0.999)) for part in (generator, critic))
    centre, ones, zeros = torch.tensor([2.0, -1.0]), torch.ones(64, 1), torch.zeros(64, 1)

    def turns() -> Iterator[Turn]:
        for _ in range(steps):
            model.zero_grad()
            real, made = centre + 0.3 * torch.randn(64, 2), generator(torch.randn(64, 4)).detach()
            seen = F.binary_cross_entropy_with_logits
            yield Turn(seen(critic(real), ones) + seen(critic(made), zeros), judges, list(critic.parameters()))
            model.zero_grad()
            yield Turn(seen(critic(generator(torch.randn(64, 4))), ones), makes, list(generator.parameters()))

    def measure() -> float:
        made = predictions(generator, torch.randn(500, 4))
        return torch.lt((made - centre).square().sum(1), 1).float().mean().item()

    return Program(model, turns(), 2 * steps, measure)


def uncertain(steps: int) -> Program:
    """Regression that says how sure it is: the loss is a negative log-likelihood, and falls below zero."""
    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))
    held = torch.linspace(-2, 2, 200)[:, None]

    def loss() -> Tensor:
        x = 4 * torch.rand(64, 1) - 2
        y = (2 * x).sin() + 0.02 * (1 + x.abs()) * torch.randn_like(x)
        mean, log_variance = torch.chunk(model(x), 2, -1)
        return torch.mean((y - mean).square() / log_variance.exp() + log_variance) / 2

    def measure() -> float:
        truth = (2 * held).sin()
        return float((predictions(model, held)[:, :1] - truth).square().mean() / truth.var())

    return trained(model, Adam(model.parameters(), 5e-3), loss, steps, measure)


class Factors(nn.Module):
    """The rating of (user, item) is the product of their vectors and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items, self.bias = nn.Embedding(80, 4), nn.Embedding(60, 4), nn.Embedding(60, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        user, item = pairs.unbind(-1)
        return torch.as_tensor((self.users(user) * self.items(item)).sum(-1) + self.bias(item)[:, 0])


def factorization(steps: int) -> Program:
    """Embeddings only, of which a batch reaches a few rows."""
    truth = torch.randn(80, 3) @ torch.randn(3, 60) / math.sqrt(3)
    model = Factors()
    all_pairs = torch.cartesian_prod(torch.arange(80), torch.arange(60))
    all_pairs = all_pairs[torch.randperm(len(all_pairs))]
    held, known = all_pairs[:800], all_pairs[800:]

    def loss() -> Tensor:
        pairs = known[torch.randint(len(known), (64,))]
        return F.mse_loss(model(pairs), truth[pairs[:, 0], pairs[:, 1]])

    return trained(
        model,
        Adam(model.parameters(), 2e-2),
        loss,
        steps,
        lambda: _unexplained(model, held, truth[held[:, 0], held[:, 1]]),
    )


class Recall(nn.Module):
    """Tokens (B, T) to scores of the token that came first."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 16)
        self.cell: nn.RNNBase = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[cell](16, 48, batch_first=True)
        self.head = nn.Linear(48, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.cell(self.table(tokens))[0][:, -1]))


def recall(steps: int, length: int, cell: str = "gru") -> Program:
    """What came first is asked for at the end."""
    model = Recall(cell)
    held = torch.randint(8, (300, length))

    def loss() -> Tensor:
        tokens = torch.randint(8, (32, length))
        return F.cross_entropy(model(tokens), tokens[:, 0])

    def measure() -> float:
        return (predictions(model, held).argmax(-1) == held[:, 0]).float().mean().item()

    return trained(model, Adam(model.parameters(), 5e-3), loss, steps, measure)


class Attention(nn.Module):
    """Tokens (B, T) to scores (B, T, tokens), by an encoder of torch."""

    def __init__(self, length: int, layers: int, norm_first: bool) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(12, 32), nn.Parameter(0.1 * torch.randn(length, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(32, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.encoder(self.table(tokens) + self.places)))


def mirror(
    steps: int, learning_rate: float = 3e-3, layers: int = 2, norm_first: bool = True, warmup: int = 20
) -> Program:
    """A transformer that reads a sequence and is to say it backwards."""
    model = Attention(10, layers, norm_first)
    held = torch.randint(12, (300, 10))

    def loss() -> Tensor:
        tokens = torch.randint(12, (32, 10))
        return F.cross_entropy(model(tokens).flatten(0, 1), tokens.flip(1).flatten())

    def measure() -> float:
        return (predictions(model, held).argmax(-1) == held.flip(1)).float().mean().item()

    optimizer = Adam(model.parameters(), learning_rate)
    return trained(model, optimizer, loss, steps, measure, lambda step: min(1.0, (step + 1) / warmup))


class Speller(nn.Module):
    """Letters (B, T) to scores of the next (B, T, letters)."""

    def __init__(self, letters: int) -> None:
        super().__init__()
        self.table, self.cell, self.head = (
            nn.Embedding(letters, 16),
            nn.LSTM(16, 48, batch_first=True),
            nn.Linear(48, letters),
        )

    def forward(self, letters: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.cell(self.table(letters))[0]))


def language(steps: int) -> Program:
    """Which letter comes next in words in random order."""
    words = ["gradient ", "layer ", "loss ", "weight ", "norm ", "depth "]
    letters = sorted(set("".join(words)))
    text = "".join(words[index] for index in torch.randint(len(words), (2000,)).tolist())
    ids = torch.tensor([letters.index(letter) for letter in text])
    model = Speller(len(letters))
    held, known = ids[:1000].reshape(40, 25), ids[1000:]

    def loss() -> Tensor:
        starts = torch.randint(len(known) - 25, (16, 1))
        window = known[starts + torch.arange(25)]
        return F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())

    def measure() -> float:
        return (predictions(model, held[:, :-1]).argmax(-1) == held[:, 1:]).float().mean().item()

    return trained(model, Adam(model.parameters(), 5e-3), loss, steps, measure)


def diffusion(steps: int) -> Program:
    """Tells how much noise lies on points of two classes, at ten strengths."""
    model = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def draw(count: int) -> tuple[Tensor, Tensor]:
        side = torch.randint(2, (count, 1)) * 2.0 - 1
        strength = torch.randint(1, 11, (count, 1)) / 10
        noise = torch.randn(count, 2)
        points = side * torch.tensor([1.0, 0.5]) + 0.05 * torch.randn(count, 2)
        return torch.cat([points * (1 - strength).sqrt() + noise * strength.sqrt(), strength], 1), noise

    def loss() -> Tensor:
        x, noise = draw(128)
        return F.mse_loss(model(x), noise)

    held, noise = draw(1000)
    return trained(model, Adam(model.parameters(), 3e-3), loss, steps, lambda: _unexplained(model, held, noise))
