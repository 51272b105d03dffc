import copy
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unvanish
from unvanish.gradients.judge.diagnosis import planned
from unvanish.gradients.judge.finding import Finding
from unvanish.gradients.judge.plan import UnfitError
from unvanish.gradients.judge.remedies import REMEDIES, Remedy
from unvanish.gradients.judge.rules import RULES
from unvanish.gradients.judge.trials import Trial, Trials, attempt, helps, try_remedies

SAMPLES, INPUTS, CLASSES, STEPS, LONG = 67, 5, 3, 12, 40
#: What rules say of a case, and not of themselves.
OF_A_CASE = ("no softmax at the end: the loss expects logits", "a loss on probabilities", "no sigmoid on the output")


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.1)


def batches(count=3, *, shape=(INPUTS,), seed=1):
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        x = torch.randn(SAMPLES, *shape, generator=draw)
        found.append((x, (x.flatten(1)[:, 0] > 0).long() + (x.flatten(1)[:, 1] > 0.5).long()))
    return found


def net(*end, activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, 7), activation(), nn.Linear(7, CLASSES), *end)


def by_hand(model, data, loss, rate, steps=STEPS, clip=None):
    """The mean of the last losses of a plain loop; those of the last half, up to 20."""
    model = copy.deepcopy(model).train()
    optimizer, losses = torch.optim.SGD(model.parameters(), rate), []
    for step in range(steps):
        x, y = data[step % len(data)]
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(value.item())
    last = losses[-(steps // 2) :]
    return sum(last) / len(last)


def remedy(name):
    return next(remedy for remedy in REMEDIES if remedy.name == name)


def plan_of(model, data=None, loss=F.cross_entropy, steps=STEPS):
    return planned(model, data or batches(), loss, steps, sgd)[1]


def applied(name, model, **options):
    return remedy(name).apply(plan_of(model, **options))


@pytest.mark.slow
def test_the_softmax_that_a_finding_names_is_taken_out_and_wins():
    found = unvanish.diagnose(net(nn.Softmax(1)), batches(), F.cross_entropy, LONG, lambda p: torch.optim.SGD(p, 1.0))
    trials = found.trials
    assert trials.best.remedy == "no activation at the output"
    assert trials.best.changes == {"3": "Identity"}
    assert trials.best.loss == pytest.approx(by_hand(net(), batches(), F.cross_entropy, 1.0, LONG))
    assert trials.unchanged.loss == pytest.approx(by_hand(net(nn.Softmax(1)), batches(), F.cross_entropy, 1.0, LONG))
    assert [trial.loss for trial in trials.tried] == sorted(trial.loss for trial in trials.tried)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["fixes"][0]["fix"] == values["trials"]["best"] == "no activation at the output"
    assert values["fixes"][0]["named"]
    assert values["trials"]["random_loss"] == pytest.approx(sum(f["loss"] for f in values["fixes"]) / len(trials.tried))
    lines = str(found).splitlines()
    assert lines[-1].startswith("remedy: no activation at the output, which reaches a loss of ")
    (at_random,) = (line for line in lines if line.startswith("one of these at random"))
    assert f"the mean of {len(trials.tried)}" in at_random


def test_each_training_is_the_plain_loop_with_the_remedy():
    data, model = batches(), net()
    plan = plan_of(model)
    for name, rate, clip in (
        ("ten times the learning rate", 1.0, None),
        ("a hundredth of the learning rate", 0.001, None),
        ("gradient clipping", 0.1, 1.0),
    ):
        assert attempt(plan, remedy(name)).loss == pytest.approx(
            by_hand(model, data, F.cross_entropy, rate, clip=clip)
        ), name
    plan = applied("a learning rate that warms up", model)
    assert [plan.rate(step) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert applied("Adam instead of SGD", model).optimizer(model).defaults["lr"] == 1e-3


@pytest.mark.slow
def test_the_model_its_gradients_and_the_random_numbers_are_left_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, 7), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(7, CLASSES))
    model.eval()
    model[0].weight.grad = torch.ones(7, INPUTS)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()

    def loss(output, y):  # of which a part is the model's own, and no copy's
        return F.cross_entropy(output, y) + 0.1 * model[4].weight.square().sum()

    first = unvanish.diagnose(model, batches(), loss, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training or module._forward_hooks for module in model.modules())
    assert torch.equal(model[0].weight.grad, torch.ones(7, INPUTS))
    assert model[4].weight.grad is None
    torch.rand(3)
    again = unvanish.diagnose(model, batches(), loss, 4)
    assert [trial.loss for trial in first.trials.tried] == [trial.loss for trial in again.trials.tried]


@pytest.mark.slow
def test_one_batch_several_and_a_loader_are_taken_in_turns():
    data = batches(2)
    for given, taken in (
        (data[0], data[:1]),
        ([*data[0]], data[:1]),  # as a DataLoader makes them
        (data, data),
        ((pair for pair in data), data),
    ):
        trials = unvanish.diagnose(net(), given, F.cross_entropy, 5, sgd).trials
        assert trials.unchanged.loss == pytest.approx(by_hand(net(), taken, F.cross_entropy, 0.1, 5))
    with pytest.raises(ValueError, match="no batch"):
        unvanish.diagnose(net(), [], F.cross_entropy)


@pytest.mark.slow
def test_standardised_targets_are_told_in_their_own_units():
    torch.manual_seed(0)
    x = torch.rand(SAMPLES, INPUTS)
    y = 1000 + 50 * x.sum(1)
    model = nn.Sequential(nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, 1))

    def loss(output, y):
        return (output.flatten() - y).square().mean()

    trials = unvanish.diagnose(model, (x, y), loss, STEPS, lambda p: torch.optim.SGD(p, 0.01)).trials
    assert trials.best.remedy == "standardised targets"
    scaled = (y - y.mean()) / y.std(correction=0)
    expected = by_hand(model, [(x, scaled)], loss, 0.01) * y.var(correction=0).item()
    assert trials.best.loss == pytest.approx(expected, rel=1e-3)
    with pytest.raises(UnfitError, match="not numbers"):
        applied("standardised targets", net())


@pytest.mark.parametrize("shape", [(INPUTS,), (11, INPUTS), (3, 11, 13)])
def test_inputs_are_standardised_by_their_features_or_channels(shape):
    torch.manual_seed(0)
    data = [(100 + 7 * torch.randn(SAMPLES, *shape), torch.zeros(SAMPLES, dtype=torch.long)) for _ in range(2)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), CLASSES))
    x = torch.cat([x for x, _ in applied("standardised inputs", model, data=data).batches])
    x = (x if len(shape) == 3 else x.flatten(0, -2).unsqueeze(-1)).transpose(0, 1).flatten(1)
    assert len(x) == shape[0 if len(shape) == 3 else -1]
    assert torch.allclose(x.mean(1), torch.zeros(len(x)), atol=1e-3)
    assert torch.allclose(x.std(1, correction=0), torch.ones(len(x)), atol=1e-3)
    with pytest.raises(UnfitError, match="already"):
        applied("standardised inputs", nn.Sequential(nn.Flatten(), model[1]), data=batches(shape=shape))


@pytest.mark.slow
def test_a_softmax_that_is_a_function_is_undone_before_the_loss():
    class Softened(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            return self.net(x).softmax(1)

    optimizer = lambda p: torch.optim.SGD(p, 1.0)  # noqa: E731
    trials = unvanish.diagnose(Softened(), batches(), F.cross_entropy, LONG, optimizer).trials
    assert trials.best.remedy == "a loss on probabilities"
    assert trials.best.loss == pytest.approx(by_hand(net(), batches(), F.cross_entropy, 1.0, LONG), rel=1e-4)
    assert trials.skipped["no activation at the output"] == "the activation at the output is not a module"


def test_a_prediction_that_broadcasts_is_squeezed():
    x = batches(1)[0][0]
    y, model = x.sum(1), nn.Sequential(nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, 1))
    trials = unvanish.diagnose(model, (x, y), lambda z, y: (z - y).square().mean(), STEPS, sgd).trials
    assert trials.best.remedy == "squeeze(-1) of both"


def test_activations_are_swapped_but_for_the_one_at_the_output():
    deep = nn.Sequential(
        nn.Linear(INPUTS, 7), nn.Sigmoid(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, CLASSES), nn.Tanh()
    )
    kinds = [type(module).__name__ for module in applied("ReLU with He initialization", deep).model]
    assert kinds == ["Linear", "ReLU", "Linear", "ReLU", "Linear", "Tanh"]
    wide = nn.Sequential(nn.Linear(INPUTS, 997), nn.Sigmoid(), nn.Linear(997, CLASSES))
    model = applied("ReLU with He initialization", wide).model
    assert model[0].weight.std().item() == pytest.approx(math.sqrt(2 / INPUTS), rel=0.05)
    assert model[2].weight.std().item() == pytest.approx(math.sqrt(2 / (997 + CLASSES)), rel=0.05)
    assert not model[0].bias.any()
    assert isinstance(applied("leaky ReLU", net()).model[1], nn.LeakyReLU)
    assert isinstance(applied("tanh with Xavier initialization", wide).model[1], nn.Tanh)
    with pytest.raises(UnfitError, match=r"no nn\.Sigmoid and no nn\.Tanh"):
        applied("ReLU with He initialization", net())


def test_norms_stand_between_hidden_layers_and_their_activations():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 9 * 11, 7), nn.ReLU(), nn.Linear(7, CLASSES)
    )
    data = batches(shape=(3, 11, 13))
    for name, kinds in (
        ("batch normalization", (nn.BatchNorm2d, nn.BatchNorm1d)),
        ("layer normalization", (nn.GroupNorm, nn.LayerNorm)),
    ):
        plan = applied(name, model, data=data)
        assert [type(plan.model[index][1]) for index in (0, 3)] == [*kinds]
        assert torch.equal(plan.model[3][0].weight, model[3].weight)
        assert isinstance(plan.model[5], nn.Linear)
        assert plan.changes == {"normalization": "after 0, 3"}
    with pytest.raises(UnfitError, match="already"):
        applied("batch normalization", plan.model, data=data)


class Reads(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.leave = cell, nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.leave(self.cell(x)[0][:, -1])


class Steps(nn.Module):
    """The tutorial's recurrent network."""

    def __init__(self):
        super().__init__()
        self.step, self.leave = nn.Linear(INPUTS + 7, 7), nn.Linear(7, CLASSES)

    def forward(self, x):
        h = x.new_zeros(len(x), 7)
        for t in range(x.shape[1]):
            h = self.step(torch.cat([x[:, t], h], 1)).tanh()
        return self.leave(h)


def test_recurrent_networks_get_gates_orthogonal_weights_and_an_open_forget_gate():
    data = batches(shape=(11, INPUTS))
    cell = applied("GRU cells instead of tanh cells", Reads(nn.RNN(INPUTS, 7, batch_first=True)), data=data).model.cell
    assert isinstance(cell, nn.GRU)
    assert cell.batch_first
    lstm = Reads(nn.LSTM(INPUTS, 7, batch_first=True))
    weight = applied("orthogonal recurrent weights", lstm, data=data).model.cell.weight_hh_l0
    assert all(torch.allclose(gate @ gate.T, torch.eye(7), atol=1e-5) for gate in weight.chunk(4))
    cell = applied("a forget-gate bias of 1", lstm, data=data).model.cell
    assert (cell.bias_ih_l0 + cell.bias_hh_l0)[7:14].tolist() == [1.0] * 7
    assert torch.equal(cell.bias_ih_l0[:7], lstm.cell.bias_ih_l0[:7])
    weight = applied("orthogonal recurrent weights", Steps(), data=data).model.step.weight
    assert torch.allclose(weight @ weight.T, torch.eye(7), atol=1e-5)
    with pytest.raises(UnfitError, match="no LSTM"):
        applied("a forget-gate bias of 1", net())


def test_the_norms_of_a_transformer_move_to_the_front():
    block = nn.TransformerEncoderLayer(8, 2, 13, 0.0, batch_first=True)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.leave = nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Linear(8, CLASSES)

        def forward(self, x):
            return self.leave(self.blocks(x).mean(1))

    name = "layer normalization in front of each branch"
    plan = applied(name, Model(), data=batches(shape=(5, 8)))
    assert all(layer.norm_first for layer in plan.model.blocks.layers)
    with pytest.raises(UnfitError, match=r"no nn\.TransformerEncoderLayer"):
        remedy(name).apply(plan)


def trial(loss, name="this"):
    found = try_remedies(plan_of(net(), steps=1), [], ()).unchanged
    return Trial(name, {}, loss, found.verdict, learns=False)


@pytest.mark.parametrize(
    ("loss", "unchanged", "expected"),
    [(0.94, 1.0, True), (0.96, 1.0, False), (1.0, math.nan, True), (math.inf, math.nan, False), (-1.1, -1.0, True)],
)
def test_a_remedy_helps_by_five_per_cent(loss, unchanged, expected):
    assert helps(loss, unchanged) == expected
    assert (Trials(1, trial(unchanged), [trial(loss)], {}).best is not None) == expected


@pytest.mark.slow
def test_a_loss_that_is_no_number_comes_last_and_is_in_no_mean():
    def bursts(plan):
        return remedy("ten times the learning rate").apply(plan)

    def explodes(parameters):
        return torch.optim.SGD(parameters, 1e20)

    plan = planned(net(), batches(), F.cross_entropy, STEPS, explodes)[1]
    found = try_remedies(plan, [], [Remedy("higher", bursts, "-"), *REMEDIES])
    assert not math.isfinite(found.unchanged.loss)
    finite = [math.isfinite(trial.loss) for trial in found.tried]
    assert finite == sorted(finite, reverse=True)
    assert found.lost == finite.count(False) > 0
    assert math.isfinite(found.random_loss) == any(finite)


def test_what_breaks_the_network_or_fits_it_not_is_said_where_a_finding_names_it():
    def breaks(plan):
        plan.model[0] = nn.Linear(INPUTS + 1, 7)
        return plan

    finding = Finding("ill", (), "", "", ("a break", "more steps", "leaky ReLU", "Adam instead of SGD"), ())
    tried = [Remedy("a break", breaks, "a break"), *REMEDIES]
    found = try_remedies(plan_of(net(activation=nn.Tanh)), [finding], tried)
    assert "shapes cannot be multiplied" in found.skipped["a break"]
    assert found.skipped["leaky ReLU"] == "it has no nn.ReLU"
    assert found.skipped["more steps"] == ""
    assert [trial.remedy for trial in found.tried if trial.is_named] == ["Adam instead of SGD"]


def test_of_a_network_that_learns_nothing_is_tried_that_no_finding_names():
    found = unvanish.diagnose(net(), batches(), F.cross_entropy, 60, lambda p: torch.optim.Adam(p, 0.03))
    assert found.trials.unchanged.learns
    assert found.trials.tried == []
    assert str(found).endswith("nothing else was tried")


def test_what_cannot_be_tried_is_refused():
    def shares(model):
        model[0].held = model[0].weight * 2  # which autograd has made
        return model

    with pytest.raises(ValueError, match="cannot be copied"):
        unvanish.diagnose(shares(net()), batches(), F.cross_entropy, 1)
    assert unvanish.diagnose(shares(net()), batches(), F.cross_entropy).trials is None
    with pytest.raises(ValueError, match="a function that makes one"):
        unvanish.diagnose(net(), batches(), F.cross_entropy, 1, sgd(net().parameters()))


def test_every_remedy_answers_to_what_a_rule_says():
    words = [words for rule in RULES for words in rule.remedies]
    for one in REMEDIES:
        assert any(one.is_meant(said) for said in (*words, *OF_A_CASE)), one.name
    assert len({one.name for one in REMEDIES}) == len(REMEDIES)
