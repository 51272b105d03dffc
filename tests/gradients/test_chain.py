import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unvanish import MLP, GradientRecorder
from unvanish.gradients.theory.chain import ChainProbe

WIDTH, BATCH, CLASSES = 509, 61, 3


class Functional(nn.Module):
    def __init__(self, between=torch.tanh):
        super().__init__()
        self.between = between
        self.first, self.second, self.third = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, CLASSES),
        )

    def forward(self, x):
        a = torch.tanh(self.first(x)).view(-1, WIDTH)
        return self.third(F.relu(self.second(self.between(a))))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).relu()
        return x


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.twice(self.twice(self.first(x).relu()).relu())


def measured(model, passes=1):
    """The chain that is found, and |delta| by layer."""
    x = torch.randn(BATCH, WIDTH)
    with GradientRecorder(model) as recorder:
        probe = ChainProbe(model)
        for _ in range(passes):
            out = model(x)
            (out * torch.randn_like(out)).sum().backward()
        recorder.before_step(0)
    return probe.chain(), recorder.flush()[0].values["delta_norm"]


def test_the_expected_delta_of_a_wide_network_is_the_measured_one():
    torch.manual_seed(0)
    chain, deltas = measured(MLP((WIDTH,), CLASSES, [WIDTH] * 9, activation="tanh", initialization="xavier_normal"))
    assert chain.layers == list(deltas)
    assert chain.activations == ["tanh"] * 9
    assert chain.batch_size is None
    assert chain.expected(deltas) == pytest.approx(deltas, rel=0.1)
    assert chain.sigma_w2[0] == pytest.approx(1, rel=0.02)
    assert chain.q0 == pytest.approx(1, rel=0.02)


def test_activations_called_as_functions_are_found_and_micro_batches_count_once():
    torch.manual_seed(0)
    chain, deltas = measured(Functional(), passes=2)
    assert chain is None  # two activations in a row
    chain, deltas = measured(Functional(between=lambda a: a), passes=2)
    assert chain.activations == ["tanh", "relu"]
    assert chain.expected(deltas) == pytest.approx(deltas, rel=0.15)


def test_with_batch_normalization_yang_s_factor_holds_between_the_second_layer_and_the_last_hidden_one():
    torch.manual_seed(0)
    chain, deltas = measured(MLP((WIDTH,), CLASSES, [WIDTH] * 11, normalization="batch"))
    expected = chain.expected(deltas)
    assert chain.batch_size == BATCH
    assert list(expected) == list(deltas)[1:-1]
    assert expected == pytest.approx({name: deltas[name] for name in expected}, rel=0.15)
    assert chain.factor_per_layer == pytest.approx(1.222, abs=1e-3)


@pytest.mark.parametrize(
    "model",
    [
        Residual(),
        Shared(),
        Functional(between=nn.Dropout(0.5)),
        Functional(between=nn.LayerNorm(WIDTH)),
        nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ELU(), nn.Linear(WIDTH, CLASSES)),
        nn.Sequential(
            nn.Unflatten(1, (1, WIDTH)), nn.Conv1d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(WIDTH - 2, CLASSES)
        ),
        MLP((WIDTH,), CLASSES, WIDTH, 5, "sigmoid", normalization="batch"),
        nn.Linear(WIDTH, CLASSES),
    ],
    ids=["residual", "shared", "dropout", "layernorm", "elu", "convolution", "sigmoid after batchnorm", "one layer"],
)
def test_what_theory_does_not_cover_is_no_chain(model):
    chain, _ = measured(model)
    assert chain is None
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_no_chain_is_watched_no_longer_than_it_takes_to_see_that():
    model = Residual()
    probe = ChainProbe(model)
    model.layers[1](model.layers[0](torch.randn(BATCH, WIDTH)).relu())
    assert all(layer._forward_hooks for layer in model.layers)
    probe.close()
    probe = ChainProbe(model)
    model(torch.randn(BATCH, WIDTH))
    assert probe.chain() is None
    assert not any(layer._forward_hooks for layer in model.layers)
    assert len(probe._calls) == 1
