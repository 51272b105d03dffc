"""What an optimizer's step is: clipped before it, moved after it, whatever the optimizer."""

import math

import pytest
import torch
from autograd_twin import root
from parts import CLASSES, INPUTS, SAMPLES, mlp
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in ("Optimizer", "SparseAdam")
)


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SAMPLES, INPUTS, generator=generator), torch.zeros(SAMPLES, dtype=torch.long)


def loss_of(model, seed=1):
    x, y = batch(seed)
    return F.cross_entropy(model(x), y)


def weight_norms(model, of=lambda p: p.grad):
    return {name.rpartition(".")[0]: root([of(p)]) for name, p in model.named_parameters() if p.dim() > 1}


def delta_of_first(model, run):
    """|dL/dz| of the first layer in the one pass that ``run`` makes, by a hook of torch's own."""
    kept = []
    handle = model[0].register_forward_hook(lambda _, inputs, z: (kept.append(z), z.retain_grad())[0])
    run()
    handle.remove()
    return root([z.grad for z in kept])


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}, {"nesterov": True, "momentum": 0.9}])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clipped_gradients_are_those_that_any_optimizer_of_torch_sees(name, options):
    model = mlp()
    parameters = [p for p in model.parameters() if name != "Muon" or p.dim() == 2]
    try:
        optimizer = getattr(torch.optim, name)(parameters, lr=0.01, **options)
    except (TypeError, RuntimeError, ValueError):
        pytest.skip("torch has no such optimizer")
    expected = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            recorder.before_step(step)
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            expected.append(weight_norms(model))
            optimizer.step(*([lambda: loss_of(model)] if step == 1 or name == "LBFGS" else []))
            recorder.after_step()
    found = [record.values["gradient_norm_clipped"] for record in recorder.flush()]
    assert found == [pytest.approx(norms, rel=1e-5) for norms in expected]
    assert recorder.notes == []


def test_an_optimizer_that_is_not_torch_s_is_said():
    model = mlp()
    with GradientRecorder(model) as recorder:
        loss_of(model).backward()
        recorder.before_step(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.1 * parameter.grad)
        recorder.after_step()
    (record,) = recorder.flush()
    assert "gradient_norm_clipped" not in record.values
    assert record.values["update_ratio"]["0"] > 0
    (note,) = recorder.notes
    assert note.startswith("gradient after clipping of the network was not measured: no optimizer of torch.optim")


def test_a_learning_rate_of_zero_moves_nothing_and_that_is_a_value():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with GradientRecorder(model) as recorder:
        loss_of(model).backward()
        recorder.before_step(0)
        optimizer.step()
        recorder.after_step()
    assert recorder.flush()[0].values["update_ratio"] == dict.fromkeys(("0", "2", "4", "6"), 0.0)


@pytest.mark.parametrize("together", [True, False], ids=["before, before, step, step", "one after the other"])
@pytest.mark.parametrize("given", [True, False])
def test_two_optimizers_on_one_backward_pass_are_one_trunk_and_each_is_read(together, given):
    model = mlp()
    inner = [model[2].weight, model[4].weight]
    others = [p for p in model.parameters() if not any(p is weight for weight in inner)]
    optimizers = [(torch.optim.SGD(inner, lr=0.1), inner), (torch.optim.Adam(others, lr=0.1), others)]
    with GradientRecorder(model, every_n_steps=1) as recorder:
        loss_of(model).backward()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for index, (optimizer, parameters) in enumerate(optimizers):
            recorder.before_step(0, parameters)
            if not together:
                optimizer.step()
                recorder.after_step(optimizer if given else None)
            elif index == 1:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
                clipped = weight_norms(model)
                for stepping, _ in optimizers:
                    stepping.step()
                    recorder.after_step(stepping if given else None)
    first, second = recorder.flush()
    moved = {n.partition(".")[0]: p.detach() - before[n] for n, p in model.named_parameters() if p.dim() > 1}
    ratios = {name: root([move]) / root([before[f"{name}.weight"]]) for name, move in moved.items()}
    assert first.values["update_ratio"] | second.values["update_ratio"] == pytest.approx(ratios, rel=1e-5)
    if together:
        seen = first.values["gradient_norm_clipped"] | second.values["gradient_norm_clipped"]
        assert seen == pytest.approx(clipped, rel=1e-5)
    assert [trunk.layers for trunk in first.trunks] == [("0", "2", "4", "6")]
    assert (first.part, second.part, first.is_full, second.is_full) == ("", "", True, False)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("inside", [True, False])
def test_lbfgs_makes_one_record_a_step_and_its_update_is_that_of_the_step(search, inside):
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn=search)
    moved = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(3):
            before = model[0].weight.detach().clone()

            def closure(step=step):
                optimizer.zero_grad()
                loss = loss_of(model)
                loss.backward()
                if inside:
                    recorder.before_step(step)
                return loss

            if not inside:
                closure()
                recorder.before_step(step)
            optimizer.step(closure)
            recorder.after_step()
            moved.append(root([model[0].weight - before]) / root([before]))
    records = recorder.flush()
    assert [record.step for record in records] == [0, 1, 2]
    assert [record.values["update_ratio"]["0"] for record in records] == pytest.approx(moved, rel=1e-4)


@pytest.mark.parametrize("first", [1, 10])
def test_layers_that_are_replaced_or_added_are_right_from_the_next_step_on(first):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(model, every_n_steps=5, first_steps=first) as recorder:
        for step in range(9):
            if step == 2:
                model[0] = nn.Linear(INPUTS, 7)
                model.append(nn.Tanh()).append(nn.Linear(CLASSES, CLASSES))
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            optimizer.zero_grad()
            loss_of(model).backward()
            expected = weight_norms(model)
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
            (record,) = recorder.flush()
            assert record.values["gradient_norm"] == pytest.approx(expected, rel=1e-5), step
    assert recorder.layers == ["0", "2", "4", "6", "8"]
    assert recorder.notes == ["the first step of 0, 8 was not measured: layers were added or replaced while it ran"]


def test_an_optimizer_that_steps_in_the_backward_pass_is_said():
    model = mlp()
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    with GradientRecorder(model) as recorder:
        expected = delta_of_first(model, lambda: loss_of(model).backward())
        recorder.before_step(0)
        recorder.after_step()
    (record,) = recorder.flush()
    assert record.values["delta_norm"]["0"] == pytest.approx(expected)
    assert "gradient_norm" not in record.values
    assert recorder.notes == [
        "dL/dW of 0, 2, 4, 6 was not measured: its gradient was gone before the step: an optimizer stepped in the "
        "backward pass"
    ]


def test_what_is_frozen_at_first_is_measured_once_it_trains():
    model = nn.Sequential(mlp(), nn.BatchNorm1d(CLASSES))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(model, every_n_steps=3, first_steps=1) as recorder:
        for step in range(8):
            model[0].requires_grad_(step >= 4)
            optimizer.zero_grad()
            loss_of(model).backward()
            total = root([p.grad for p in model.parameters() if p.grad is not None])
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
            (record,) = recorder.flush()
            assert record.totals["gradient_norm"] == pytest.approx(total, rel=1e-6)
            assert len(record.values.get("gradient_norm", ())) == (4 if step >= 4 else 0)
    assert recorder.notes == []


def test_a_step_that_a_scaler_skips_is_not_finite_and_moves_nothing():
    model = mlp()
    scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=1024.0), torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(3):
            optimizer.zero_grad()
            (scaler.scale(loss_of(model)) * (math.inf if step == 1 else 1)).backward()
            scaler.unscale_(optimizer)
            recorder.before_step(step, loss_scale=scaler.get_scale())
            scaler.step(optimizer)
            scaler.update()
            recorder.after_step()
    records = recorder.flush()
    assert [record.is_finite for record in records] == [True, False, True]
    assert [record.values["update_ratio"]["0"] > 0 for record in records] == [True, False, True]
    assert recorder.notes == []
