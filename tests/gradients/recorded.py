"""Networks to record, and a training loop that keeps beside each record what it should have found."""

import pytest
import torch
from autograd_twin import Twin, cosine, flat, layers_of, octaves, of_module, root
from torch import nn
from torch.nn import functional as F

BATCH, TIMES, FEATURES, CLASSES = 33, 7, 5, 3
INPUTS = TIMES * FEATURES


def identity(z):
    return z


class Functional(nn.Module):
    """Activations as functions, over two axes of positions; the fourth layer runs beside the third."""

    def __init__(self):
        super().__init__()
        self.enter, self.middle = nn.Linear(FEATURES, 11), nn.Linear(11, 7)
        self.mean, self.gate = nn.Linear(7, 3), nn.Linear(7, 3)
        self.leave = nn.Linear(TIMES * 3, CLASSES)

    def forward(self, x):
        h = F.dropout(F.relu(4 * self.enter(x.unflatten(1, (TIMES, FEATURES))) - 1), 0.0)
        h = torch.tanh(self.middle(h))
        return self.leave((self.mean(h) * self.gate(h)).flatten(1))


class Shared(nn.Module):
    """Runs one layer twice and leaves another one out."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.enter = nn.Linear(INPUTS, 7)
        self.twice = nn.Linear(7, 7)
        self.leave = nn.Linear(7, CLASSES)

    def forward(self, x):
        h = self.enter(x).relu()
        return self.leave(self.twice(self.twice(h).tanh()).tanh())


class Convolutional(nn.Module):
    """As in most first examples: pooling after one ReLU, flattening after the other."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 7, 2)
        self.norm = nn.BatchNorm2d(5)
        with torch.no_grad():
            self.conv2.bias -= torch.linspace(0, 3, 7)
        self.fc = nn.Linear(7 * 1 * 2, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x.unflatten(1, (1, TIMES, FEATURES)) - 1)), 2)
        return self.fc(F.relu(self.conv2(self.norm(x))).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(FEATURES, 7, batch_first=True, **options)
        self.leave = nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.leave(self.rnn(x.unflatten(1, (TIMES, FEATURES)))[0][:, -1])


class Transformer(nn.Module):
    def __init__(self, norm_first=False):
        super().__init__()
        self.embed = nn.Linear(FEATURES, 6)
        layer = nn.TransformerEncoderLayer(6, 2, 13, dropout=0.0, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.leave = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.leave(self.encoder(self.embed(x.unflatten(1, (TIMES, FEATURES)))).mean(1))


def mlp():
    layers = nn.Sequential(
        nn.Linear(INPUTS, 13), nn.ReLU(inplace=True), nn.Linear(13, 11), nn.Tanh(),
        nn.Linear(11, 7), nn.Sigmoid(), nn.Linear(7, CLASSES),
    )  # fmt: skip
    with torch.no_grad():
        layers[0].bias[:3] -= 5
        for layer in layers[::2]:
            layer.weight *= 5
    return layers


def batchnorm():
    layers = nn.Sequential(nn.Linear(INPUTS, 7), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Linear(7, CLASSES))
    nn.init.constant_(layers[1].weight, 4.0)
    return layers


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, TIMES, FEATURES)), nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True),
        nn.Conv2d(5, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 3, CLASSES),
    )  # fmt: skip


def resnet18():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(num_classes=CLASSES)


def resnet_activations():
    found = {"conv1": ("relu", "relu"), "fc": ("identity", identity)}
    for stage in range(1, 5):
        for block in range(2):
            name = f"layer{stage}.{block}"
            last = ("relu", of_module(f"{name}.relu", 1))
            found[f"{name}.conv1"] = ("relu", of_module(f"{name}.relu", 0))
            found[f"{name}.conv2"] = last
            if block == 0 and stage > 1:
                found[f"{name}.conv2"], found[f"{name}.downsample.0"] = ("identity", identity), last
    return found


def transformer_activations():
    found = {"embed": ("identity", identity), "leave": ("identity", identity)}
    for index in range(2):
        name = f"encoder.layers.{index}"
        found |= {f"{name}.self_attn": ("identity", identity), f"{name}.linear1": ("relu", torch.relu)}
        found[f"{name}.linear2"] = ("identity", identity)
    return found


LEAVE = {"leave": ("identity", identity)}
#: Each network with what follows its layers.
NETWORKS = {
    "mlp": (
        mlp,
        {"0": ("relu", "1"), "2": ("tanh", torch.tanh), "4": ("sigmoid", torch.sigmoid), "6": ("identity", identity)},
    ),
    "functional": (
        Functional,
        LEAVE
        | {"enter": ("relu", lambda z: torch.relu(4 * z - 1)), "middle": ("tanh", torch.tanh)}
        | dict.fromkeys(("mean", "gate"), ("identity", identity)),
    ),
    "batchnorm": (batchnorm, {"0": ("sigmoid", "2"), "3": ("identity", identity)}),
    "cnn": (cnn, {"1": ("relu", "3"), "4": ("relu", "5"), "7": ("identity", identity)}),
    "pooled": (
        Convolutional,
        {"conv1": ("relu", torch.relu), "conv2": ("relu", torch.relu), "fc": ("identity", identity)},
    ),
    "shared": (Shared, LEAVE | {"enter": ("relu", torch.relu), "twice": ("tanh", torch.tanh)}),
    "lstm": (lambda: Recurrent(nn.LSTM), LEAVE | {"rnn": ("identity", identity)}),
    "gru": (lambda: Recurrent(nn.GRU), LEAVE | {"rnn": ("identity", identity)}),
    "rnn": (lambda: Recurrent(nn.RNN), LEAVE | {"rnn": ("identity", identity)}),
    "transformer": (Transformer, transformer_activations()),
}


def sequence_of(x):
    """A batch as a recurrent layer sees it, (T, B, d)."""
    return x.unflatten(1, (TIMES, FEATURES)).transpose(0, 1)


def batches(dtype, count, size=BATCH):
    torch.manual_seed(1)
    return [(torch.randn(size, INPUTS, dtype=dtype), torch.randint(CLASSES, (size,))) for _ in range(count)]


def twin_of(make, model, parts):
    twin = make().to(next(model.parameters()).dtype)
    twin.load_state_dict(model.state_dict())
    for parameter, mine in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.requires_grad_(mine.requires_grad)
    return Twin(twin, parts)


def split(data, micro_batches):
    """Each batch in parts of one size."""
    return [[(x[i::micro_batches], y[i::micro_batches]) for i in range(micro_batches)] for x, y in data]


def train(make, model, steps, activations, recorder=None, clip=None, small_batches=None):
    """Trains, and returns what a recorder should find if every step is a full one.

    Args:
        steps: The micro-batches of each step.
        small_batches: Makes of a step's micro-batches the smaller ones that tell the noise.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    expected, previous = [], None
    for step, parts in enumerate(steps):
        twin = twin_of(make, model, parts)
        values, gradient = twin.values(activations), twin.gradient
        optimizer.zero_grad()
        for x, y in parts:
            (F.cross_entropy(model(x), y) / len(parts)).backward()
        before = {name: flat(weights).clone() for name, weights in layers_of(model).items()}
        if recorder is not None:
            recorder.before_step(step, batch_size=len(parts[0][0]))
        factor = 1.0
        if clip is not None:
            whole = flat([p.grad for p in model.parameters() if p.grad is not None]).norm().item()
            factor = min(1.0, clip / (whole + 1e-6))
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        small = small_batches(parts) if small_batches else parts
        of_small = twin_of(make, model, small)
        noise = of_small.noise() if len(small) > 1 else {}
        if small_batches:  # samples are compared within a call
            values["spread"] = of_small.values(activations)["spread"]
        optimizer.step()
        if recorder is not None:
            recorder.after_step()
        values["gradient_norm_clipped"] = {name: factor * norm for name, norm in values["gradient_norm"].items()}
        moved = {name: flat(layers_of(model)[name]) - before[name] for name in gradient}
        values["update_ratio"] = {name: root([moved[name]]) / root([before[name]]) for name in gradient}
        values["descent"] = {name: -cosine([moved[name]], gradient[name]) for name in gradient}
        values |= {} if step else twin.initial()
        if previous is not None:
            values["gradient_cosine"] = {name: cosine(previous[name], gradient[name]) for name in gradient}
        previous = gradient
        totals = {"gradient_norm": twin.gradient_of_all, "gradient_norm_clipped": factor * twin.gradient_of_all}
        histograms = {} if step else {name: octaves(flat(found).float()) for name, found in gradient.items()}
        expected.append((values, totals | noise, histograms))
    return expected


def assert_records(records, expected, rel):
    for record, (values, totals, histograms) in zip(records, expected, strict=True):
        assert_equal(record.values, values, rel)
        assert record.totals == pytest.approx(totals, rel=100 * rel)
        assert record.histograms == histograms


def assert_equal(values, expected, rel=1e-5):
    """Whether all values are the expected ones; only a mean and a cosine may be zero but for rounding.

    The residual stream has tests of its own.
    """
    assert values.keys() - {"stream_norm"} == expected.keys(), values.keys() ^ expected.keys()
    for quantity, layers in expected.items():
        assert values[quantity].keys() == layers.keys(), (quantity, values[quantity].keys() ^ layers.keys())
        for name, value in layers.items():
            std = expected.get("activation_std", {}).get(name, 0)
            scale = {"activation_mean": std, "gradient_cosine": 1.0, "descent": 1.0}
            near = pytest.approx(value, rel=rel, abs=0.1 * rel * scale.get(quantity, 0), nan_ok=True)
            assert values[quantity][name] == near, (quantity, name, values[quantity][name], value)
