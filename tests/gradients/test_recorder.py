import math

import pytest
import torch
from recorded import BATCH, CLASSES, INPUTS, NETWORKS, Shared, assert_equal, batches, split, train, twin_of
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unvanish.gradients import GradientRecorder


def mlp():
    return NETWORKS["mlp"][0]()


def backward(model, dtype=torch.float32):
    ((x, y),) = batches(dtype, 1)
    F.cross_entropy(model(x), y).backward()


def test_layers_come_in_the_order_of_the_forward_pass_and_those_it_skips_come_last():
    model = Shared()
    with GradientRecorder(model) as recorder:
        backward(model)
        recorder.before_step(0)
    assert recorder.layers == ["enter", "twice", "leave", "unused"]
    assert list(recorder.flush()[0].values["delta_norm"]) == ["enter", "twice", "leave"]


def test_a_forward_pass_without_gradients_leaves_no_trace():
    make, activations = NETWORKS["mlp"]
    model = make()
    with GradientRecorder(model) as recorder:
        with torch.no_grad():
            model(batches(torch.float32, 1)[0][0] * 3)
        expected = train(make, model, split(batches(torch.float32, 1), 1), activations, recorder)
        assert_equal(recorder.flush()[0].values, expected[0][0])


def test_only_the_weights_of_the_given_optimizer_are_read():
    model = mlp()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        backward(model)
        recorder.before_step(0, model[4].parameters())
        recorder.after_step()
    (record,) = recorder.flush()
    assert list(record.values["gradient_norm"]) == list(record.values["update_ratio"]) == ["4"]


@pytest.mark.parametrize("unscaled", [True, False])
def test_a_gradient_scaler_s_factor_is_taken_out(unscaled):
    make, activations = NETWORKS["mlp"]
    model = make()
    ((x, y),) = batches(torch.float32, 1)
    twin = twin_of(make, model, [(x, y)])
    expected = twin.values(activations) | twin.initial()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(model) as recorder:
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        recorder.before_step(0, loss_scale=scaler._scale, unscaled=unscaled, batch_size=BATCH)
        scaler.step(optimizer)
        scaler.update()
        recorder.after_step()
    values = recorder.flush()[0].values
    assert values.pop("update_ratio")
    assert [*values.pop("descent").values()] == pytest.approx([1] * 4)
    if unscaled:
        assert values.pop("gradient_norm_clipped") == pytest.approx(expected["gradient_norm"], rel=1e-5)
    assert_equal(values, expected)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_counts_nothing_twice(use_reentrant):
    make, activations = NETWORKS["mlp"]
    model = make()
    ((x, y),) = batches(torch.float32, 1)
    twin = twin_of(make, model, [(x, y)])
    expected = twin.values(activations) | twin.initial()
    with GradientRecorder(model) as recorder:
        h = x.clone().requires_grad_()
        for part in (model[:4], model[4:]):
            h = checkpoint(part, h, use_reentrant=use_reentrant)
        F.cross_entropy(h, y).backward()
        recorder.before_step(0)
    assert_equal(recorder.flush()[0].values, expected)
    assert recorder.layers == ["0", "2", "4", "6"]
    assert recorder.activations == {name: kind for name, (kind, _) in activations.items()}


def test_a_recurrent_layer_that_is_computed_twice_is_read_once():
    model, x = nn.GRU(5, 7), torch.randn(11, 3, 5)
    found = []
    for call in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
        with GradientRecorder(model) as recorder:
            call(x)[0].square().sum().backward()
            recorder.before_step(0)
        found.append(recorder.flush()[0].through_time)
    assert found[0] == found[1] != {}


def test_nan_is_said_and_not_left_out():
    model = mlp()
    with GradientRecorder(model) as recorder:
        (model(torch.full((BATCH, INPUTS), math.nan)).sum()).backward()
        recorder.before_step(0)
    values = recorder.flush()[0].values
    assert math.isnan(values["gradient_norm"]["0"])
    assert values["delta_norm"]["6"] == pytest.approx(math.sqrt(BATCH * CLASSES))


def one_step(model, x=None, **options):
    with GradientRecorder(model) as recorder:
        model(torch.ones(2, INPUTS) if x is None else x).sum().backward()
        recorder.before_step(0, **options)
    return recorder, recorder.flush()[0].values


def test_frozen_layers_have_no_weight_gradient_but_pass_delta_on_and_may_thaw():
    model = mlp()
    model[2].requires_grad_(False)
    recorder, values = one_step(model)
    assert list(values["delta_norm"]) == ["0", "2", "4", "6"]
    assert list(values["gradient_norm"]) == ["0", "4", "6"]
    model[2].requires_grad_(True)
    with recorder:
        model(torch.ones(2, INPUTS)).sum().backward()
        recorder.before_step(1)
    assert list(recorder.flush()[0].values["gradient_norm"]) == ["0", "2", "4", "6"]


@pytest.mark.parametrize(
    ("name", "frozen"), [("mlp", "2"), ("cnn", "4"), ("lstm", "leave"), ("transformer", "encoder.layers.1")]
)
def test_a_network_with_a_frozen_layer_equals_plain_autograd(name, frozen):
    make, activations = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    model.get_submodule(frozen).requires_grad_(False)
    with GradientRecorder(model) as recorder:
        ((values, _, _),) = train(make, model, split(batches(torch.float32, 1), 1), activations, recorder)
        assert_equal(recorder.flush()[0].values, values)
    assert len(values["gradient_norm"]) < len(recorder.layers)


def test_the_networks_under_test_have_saturated_and_dead_units():
    torch.manual_seed(0)
    make, activations = NETWORKS["mlp"]
    values = twin_of(make, make(), batches(torch.float32, 1)).values(activations)
    assert all(0 < share < 1 for share in values["saturated_share"].values())
    assert 0 < values["dead_share"]["0"] < 1


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
    of_weights = ["gradient_norm", "gradient_rms", "weight_norm", "gain", "twin_units", "twin_inputs"]
    assert list(recorder.flush()[0].values) == of_weights
    (note,) = recorder.notes
    assert note.startswith("delta of Returns was not measured: the first tensor that it returns has no part")


def test_sparse_embeddings_are_measured_as_dense_ones():
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = nn.Embedding(7, 3, sparse=sparse)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with GradientRecorder(model, every_n_steps=1) as recorder:
            for step, rows in enumerate(([1, 1, 5], [5, 6, 6])):
                optimizer.zero_grad()
                model(torch.tensor(rows)).sum().backward()
                recorder.before_step(step)
                optimizer.step()
                recorder.after_step()
        found.append([(record.values, record.histograms) for record in recorder.flush()])
    (sparse, histograms), (second, _) = found[0]
    assert sparse["gradient_norm"]["Embedding"] == pytest.approx(math.sqrt(3 * (2**2 + 1**2)))
    assert second["gradient_cosine"]["Embedding"] == pytest.approx(1 / 5)
    for (values, _), (expected, _) in zip(found[0], found[1], strict=True):
        assert expected.pop("descent") == {"Embedding": pytest.approx(1)}  # of which a sparse gradient tells nothing
        assert_equal(values, expected)
    assert histograms == found[1][0][1] != {}


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


def test_every_optimizer_has_its_own_cadence():
    model = mlp()
    with GradientRecorder(model, every_n_steps=2, first_steps=2) as recorder:
        for step in range(8):
            backward(model)
            recorder.before_step(step, model[4 * (step % 2)].parameters())
            recorder.after_step()
    records = recorder.flush()
    assert [list(record.values["gradient_norm"]) for record in records] == [["0"], ["4"]] * 4
    assert [list(record.values.get("update_ratio", ())) for record in records] == [["0"], ["4"]] * 3 + [[], []]
    assert [list(record.values.get("gradient_cosine", ())) for record in records] == [[], []] + [["0"], ["4"]] * 3


def test_two_optimizers_share_one_backward_pass():
    model = mlp()
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(2):
            model.zero_grad()
            backward(model)
            recorder.before_step(2 * step, model[:4].parameters(), batch_size=BATCH)
            recorder.before_step(2 * step + 1, model[4:].parameters(), batch_size=BATCH)
    first, second, *_ = recorder.flush()
    assert list(first.values["delta_norm"]) == ["0", "2", "4", "6"]
    assert [list(record.values["gradient_norm"]) for record in (first, second)] == [["0", "2"], ["4", "6"]]
    assert recorder.notes == []


def test_a_backward_pass_outside_of_a_step_does_not_leak_into_the_next_context():
    model = mlp()
    recorder = GradientRecorder(model)
    with recorder:
        model(torch.ones(2, INPUTS)).sum().backward()
    with recorder:
        model(torch.ones(2, INPUTS)).sum().backward()
        recorder.before_step(0)
        with pytest.raises(RuntimeError, match="already active"):
            recorder.__enter__()
    assert recorder.flush()[0].values["delta_norm"]["6"] == pytest.approx(math.sqrt(2 * CLASSES))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.ReLU(), {}, "ReLU has no weight, so there is no gradient"),
        (nn.LayerNorm(3), {}, "LayerNorm has no weight, so there is no gradient"),
        (nn.Linear(2, 3), {"every_n_steps": 0}, "every_n_steps is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        GradientRecorder(model, **options)
