import contextlib
import math

import pytest
import torch
from autograd_twin import layers_of, root, twin
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder
from unvanish.gradients.measure import norm, norms

STEPS, BATCH, INPUTS, CLASSES = 7, 11, 5, 3


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


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 7, batch_first=True)
        self.leave = nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.leave(self.lstm(x.unsqueeze(-1))[0][:, -1])


MODELS = {
    "mlp": lambda: nn.Sequential(
        nn.Linear(INPUTS, 7), nn.ReLU(inplace=True), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, CLASSES)
    ),
    "batchnorm": lambda: nn.Sequential(nn.Linear(INPUTS, 7), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Linear(7, CLASSES)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, INPUTS)), nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, CLASSES)
    ),
    "shared": Shared,
    "lstm": Recurrent,
}


def batches(dtype, count=STEPS):
    torch.manual_seed(1)
    return [(torch.randn(BATCH, INPUTS, dtype=dtype), torch.randint(CLASSES, (BATCH,))) for _ in range(count)]


def train(recorder, model, data, micro_batches=1):
    """Trains, and returns what the recorder has found and what it should have."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    expected = []
    for step, (x, y) in enumerate(data):
        parts = [(x[i::micro_batches], y[i::micro_batches]) for i in range(micro_batches)]
        expected.append(twin(model, parts))
        optimizer.zero_grad()
        for part_x, part_y in parts:
            (F.cross_entropy(model(part_x), part_y) / micro_batches).backward()
        before = {name: [w.detach().clone() for w in weights] for name, weights in layers_of(model).items()}
        recorder.before_step(step)
        optimizer.step()
        recorder.after_step()
        if step % recorder.every_n_steps == 0:
            expected[-1]["update_ratio"] = {
                name: root(w - b for w, b in zip(weights, before[name], strict=True)) / root(before[name])
                for name, weights in layers_of(model).items()
                if name in expected[-1]["gradient_norm"]
            }
    return recorder.flush(), expected


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_records_equal_plain_autograd(name, dtype, micro_batches):
    torch.manual_seed(0)
    model = MODELS[name]().to(dtype)
    with GradientRecorder(model, every_n_steps=3) as recorder:
        records, expected = train(recorder, model, batches(dtype), micro_batches)
    assert [record.step for record in records] == list(range(STEPS))
    for record, values in zip(records, expected, strict=True):
        assert record.values.keys() == values.keys()
        for quantity, layers in values.items():
            assert record.values[quantity] == pytest.approx(layers, rel=1e-5), quantity


def test_layers_come_in_the_order_of_the_forward_pass_and_those_it_skips_come_last():
    model = Shared()
    with GradientRecorder(model) as recorder:
        records, _ = train(recorder, model, batches(torch.float32, 1))
    assert recorder.layers == ["enter", "twice", "leave", "unused"]
    assert list(records[0].values["delta_norm"]) == ["enter", "twice", "leave"]


def test_recording_does_not_change_training():
    def loss_after(recorded):
        torch.manual_seed(0)
        model = MODELS["batchnorm"]()
        with GradientRecorder(model, every_n_steps=1) if recorded else contextlib.nullcontext() as recorder:
            optimizer = torch.optim.Adam(model.parameters())
            for step, (x, y) in enumerate(batches(torch.float32)):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                if recorded:
                    recorder.before_step(step)
                optimizer.step()
                if recorded:
                    recorder.after_step()
        return loss.item()

    assert loss_after(recorded=True) == loss_after(recorded=False)


def test_a_forward_pass_without_gradients_leaves_no_trace():
    model = MODELS["mlp"]()
    data = batches(torch.float32, 1)
    with GradientRecorder(model) as recorder:
        with torch.no_grad():
            model.eval()(data[0][0])
        model.train()
        (record,), (expected,) = train(recorder, model, data)
    assert record.values["delta_rms"] == pytest.approx(expected["delta_rms"], rel=1e-5)


def test_only_the_weights_of_the_given_optimizer_are_read():
    model = MODELS["mlp"]()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        F.cross_entropy(model(batches(torch.float32)[0][0]), batches(torch.float32)[0][1]).backward()
        recorder.before_step(0, model[4].parameters())
        recorder.after_step()
    (record,) = recorder.flush()
    assert list(record.values["gradient_norm"]) == list(record.values["update_ratio"]) == ["4"]


def test_a_gradient_scaler_s_factor_is_taken_out_of_delta_and_where_it_is_there_of_gradients():
    found = []
    for scale in (1.0, 2.0**16):
        torch.manual_seed(0)
        model = MODELS["mlp"]().double()
        ((x, y),) = batches(torch.float64, 1)
        with GradientRecorder(model) as recorder:
            (F.cross_entropy(model(x), y) * scale).backward()
            recorder.before_step(0, loss_scale=torch.tensor(scale))
            recorder.before_step(1, loss_scale=torch.tensor(scale), unscaled=False)
        first, second = recorder.flush()
        found.append(first.values["delta_norm"] | {"weights": second.values["gradient_norm"]["4"]})
    assert found[1] == pytest.approx(found[0], rel=1e-12)


def test_nan_is_said_and_not_left_out():
    model = MODELS["mlp"]()
    with GradientRecorder(model) as recorder:
        (model(torch.full((BATCH, INPUTS), math.nan)).sum()).backward()
        recorder.before_step(0)
    values = recorder.flush()[0].values
    assert math.isnan(values["gradient_norm"]["0"])
    assert values["delta_norm"]["4"] == pytest.approx(math.sqrt(BATCH * CLASSES))


def one_step(model, x=None, **options):
    with GradientRecorder(model) as recorder:
        model(torch.ones(2, INPUTS) if x is None else x).sum().backward()
        recorder.before_step(0, **options)
    return recorder, recorder.flush()[0].values


def test_frozen_layers_have_no_weight_gradient_but_pass_delta_on_and_may_thaw():
    model = MODELS["mlp"]()
    model[2].requires_grad_(False)
    recorder, values = one_step(model)
    assert list(values["delta_norm"]) == ["0", "2", "4"]
    assert list(values["gradient_norm"]) == ["0", "4"]
    model[2].requires_grad_(True)
    with recorder:
        model(torch.ones(2, INPUTS)).sum().backward()
        recorder.before_step(1)
    assert list(recorder.flush()[0].values["gradient_norm"]) == ["0", "2", "4"]


class Returns(nn.Module):
    """A layer of its own weight that wraps its output."""

    def __init__(self, wrap):
        super().__init__()
        self.weight, self.wrap = nn.Parameter(torch.ones(3, INPUTS)), wrap

    def forward(self, x):
        return self.wrap(x @ self.weight.T)


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda z: {"logits": z}, lambda output: output["logits"]),
        (lambda z: (None, [z]), lambda output: output[1][0]),
        (lambda z: torch.nn.utils.rnn.pack_sequence([z]), lambda output: output.data),
    ],
)
def test_what_a_layer_returns_may_be_nested(wrap, unwrap):
    model = Returns(wrap)
    with GradientRecorder(model) as recorder:
        unwrap(model(torch.ones(2, INPUTS))).sum().backward()
        recorder.before_step(0)
    values = recorder.flush()[0].values
    assert values["delta_norm"] == {"Returns": pytest.approx(math.sqrt(2 * 3))}


def test_a_layer_that_returns_no_tensor_has_a_weight_gradient_and_no_delta():
    kept = []
    model = Returns(kept.append)
    with GradientRecorder(model) as recorder:
        model(torch.ones(2, INPUTS))
        kept[0].sum().backward()
        recorder.before_step(0)
    assert list(recorder.flush()[0].values) == ["gradient_norm"]


def test_sparse_embeddings_are_measured():
    _, sparse = one_step(nn.Embedding(7, 3, sparse=True), torch.tensor([1, 1, 5]))
    _, dense = one_step(nn.Embedding(7, 3), torch.tensor([1, 1, 5]))
    assert sparse == dense
    assert sparse["gradient_norm"]["Embedding"] == pytest.approx(math.sqrt(3 * (2**2 + 1**2)))


def test_a_parametrized_layer_is_one_layer_and_its_delta_that_of_its_output():
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(INPUTS, 3))
    recorder, values = one_step(nn.Sequential(layer))
    assert recorder.layers == ["0"]
    assert values["delta_rms"]["0"] == pytest.approx(1)
    assert values["delta_norm"]["0"] == pytest.approx(math.sqrt(2 * 3))


def test_a_layer_that_one_pass_leaves_out_keeps_its_place():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.skip = nn.ModuleList(nn.Linear(INPUTS, INPUTS) for _ in range(3)), True

        def forward(self, x):
            for layer in self.layers[1:] if self.skip else self.layers:
                x = layer(x)
            return x

    model = Skips()
    with GradientRecorder(model) as recorder:
        for step, skip in enumerate([True, False, True]):
            model.skip = skip
            model(torch.ones(2, INPUTS)).sum().backward()
            recorder.before_step(step)
    assert recorder.layers == ["layers.0", "layers.1", "layers.2"]
    assert list(recorder.flush()[0].values["delta_norm"]) == ["layers.1", "layers.2"]


def test_every_optimizer_has_its_update_ratios():
    model = MODELS["mlp"]()
    with GradientRecorder(model, every_n_steps=2) as recorder:
        for step in range(8):
            model(torch.ones(2, INPUTS)).sum().backward()
            recorder.before_step(step, model[4 * (step % 2)].parameters())
            recorder.after_step()
    found = [list(record.values.get("update_ratio", ())) for record in recorder.flush()]
    assert found == [["0"], ["4"], [], [], ["0"], ["4"], [], []]


def test_a_backward_pass_outside_of_a_step_does_not_leak_into_the_next_context():
    model = MODELS["mlp"]()
    recorder = GradientRecorder(model)
    with recorder:
        model(torch.ones(2, INPUTS)).sum().backward()
    with recorder:
        model(torch.ones(2, INPUTS)).sum().backward()
        recorder.before_step(0)
        with pytest.raises(RuntimeError, match="watching already"):
            recorder.__enter__()
    assert recorder.flush()[0].values["delta_norm"]["4"] == pytest.approx(math.sqrt(2 * CLASSES))


def test_hooks_are_gone_after_the_context():
    model = MODELS["mlp"]()
    with GradientRecorder(model):
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_flush_returns_each_record_once_and_memory_does_not_grow():
    model = MODELS["mlp"]()
    with GradientRecorder(model) as recorder:
        first, _ = train(recorder, model, batches(torch.float32, 3))
        assert len(first) == 3
        assert len(recorder) == 0
        assert recorder.flush() == []


@pytest.mark.parametrize("exponent", [-30, -20, -10, 0, 10, 30])
def test_norms_hold_from_the_smallest_to_the_largest_float32(exponent):
    tensor = torch.full((64, 64), 10.0**exponent)
    expected = 64 * tensor[0, 0].double().item()
    assert norm(tensor).item() == pytest.approx(expected, rel=1e-12)
    assert norms([tensor, 2 * tensor]).tolist() == pytest.approx([expected, 2 * expected], rel=1e-12)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.ReLU(), {}, "ReLU has no weight that trains"),
        (nn.Linear(2, 3).requires_grad_(False), {}, "Linear has no weight that trains"),
        (nn.Linear(2, 3), {"every_n_steps": 0}, "every_n_steps is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        GradientRecorder(model, **options)
