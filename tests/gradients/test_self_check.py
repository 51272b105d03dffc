"""Now and then the recorder's numbers are held to plain torch's, and a difference is said once."""

import json
import math

import lightning as L
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.loggers import CSVLogger
from recorded import CLASSES, INPUTS, NETWORKS, batches
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unvanish import GradientMonitor
from unvanish.gradients import GradientRecorder, measure, self_check
from unvanish.gradients.self_check import SelfCheck, _Found

STEPS = 9


@pytest.fixture
def compared(monkeypatch):
    """Every comparison: layer, quantity, and what was found anew."""
    found, difference = [], _Found.difference
    monkeypatch.setattr(self_check, "EVERY", 1)

    def see(self, record, brought):
        found.append((self.layer, self.quantity.name, math.hypot(*self.norms.values)))
        return difference(self, record, brought)

    monkeypatch.setattr(_Found, "difference", see)
    return found


def mlp():
    return nn.Sequential(nn.Linear(INPUTS, 7), nn.ReLU(inplace=True), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, CLASSES))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(INPUTS, 7), nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.leave(checkpoint(lambda x: self.enter(x).tanh(), x, use_reentrant=False))


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.leave = nn.EmbeddingBag(11, 7, sparse=True), nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.leave(self.words((x.abs() * 5).long() % 11))


def mean_loss(model, parts):
    for x, y in parts:
        (F.cross_entropy(model(x), y) / len(parts)).backward()


def sharpness_aware(model, parts):
    """The gradient of a first pass is thrown away."""
    mean_loss(model, parts)
    model.zero_grad(set_to_none=False)
    mean_loss(model, parts)


def with_penalty(model, parts):
    """One pass is differentiated by the input beforehand."""
    ((x, y),) = parts
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    (F.cross_entropy(model(x.detach()), y) + slope.square().mean()).backward()


MAKERS = {name: make for name, (make, _) in NETWORKS.items()} | {
    "mlp": mlp,
    "checkpointed": Checkpointed,
    "sparse": Sparse,
}
LOOPS = {
    "plain": (mean_loss, 1),
    "accumulated": (mean_loss, 3),
    "sam": (sharpness_aware, 1),
    "penalty": (with_penalty, 1),
}
CASES = [*((name, "plain") for name in MAKERS), *(("mlp", loop) for loop in LOOPS), ("lstm", "accumulated")]


@pytest.mark.parametrize(("name", "loop"), CASES)
def test_a_healthy_run_is_checked_layer_by_layer_and_nothing_is_said(compared, name, loop):
    torch.manual_seed(0)
    model, (backward, parts) = MAKERS[name](), LOOPS[loop]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step, (x, y) in enumerate(batches(torch.float32, STEPS)):
            optimizer.zero_grad()
            backward(model, [(x[i::parts], y[i::parts]) for i in range(parts)])
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
        records = recorder.flush()
    assert not [note for note in recorder.notes if "by plain torch" in note or "check itself" in note]
    gradients = [(layer, value) for layer, quantity, value in compared if quantity == "gradient_norm"]
    assert {layer for layer, _ in gradients} == records[-1].values["gradient_norm"].keys()
    assert len(gradients) == STEPS - 1
    for record, (layer, value) in zip(records[1:], gradients, strict=True):
        assert record.values["gradient_norm"][layer] == pytest.approx(value, rel=1e-4)
    deltas = [(layer, value) for layer, quantity, value in compared if quantity == "delta_norm"]
    modules = dict(model.named_modules())
    assert {layer for layer, _ in deltas} == {layer for layer, _ in gradients if layer in modules}
    for record, (layer, value) in zip(records[1:], deltas, strict=True) if loop in ("plain", "accumulated") else ():
        assert record.values["delta_norm"][layer] == pytest.approx(value, rel=1e-4)


def steps(model, recorder, count=STEPS, factor=1.0):
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with recorder:
        for step, (x, y) in enumerate(batches(torch.float32, count)):
            optimizer.zero_grad()
            F.cross_entropy(model(factor * x), y).backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
        return recorder.flush()


@pytest.mark.parametrize("factor", [0.0, math.inf, math.nan, 1e-30])
def test_zero_infinity_and_nan_are_values(compared, factor):
    model = mlp()
    with torch.no_grad():
        model[4].weight.zero_()  # nothing comes to the layers before it
    recorder = GradientRecorder(model, every_n_steps=1)
    steps(model, recorder, factor=factor)
    (first, *_) = [value for layer, quantity, value in compared if (layer, quantity) == ("0", "delta_norm")]
    assert first == 0 or math.isnan(factor * 0)
    assert len(compared) == 2 * (STEPS - 1)
    assert recorder.notes == []


@pytest.mark.parametrize("scale", [2.0**10, 2.0**127])
def test_a_gradient_scaler_and_the_steps_that_it_skips(compared, scale):
    model, scaler = mlp(), torch.amp.GradScaler("cpu", init_scale=scale)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step, (x, y) in enumerate(batches(torch.float32, STEPS)):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(x), y)).backward()
            scaler.unscale_(optimizer)
            recorder.before_step(step, loss_scale=scaler._scale)
            scaler.step(optimizer)
            scaler.update()
            recorder.after_step()
        recorder.flush()
    assert len(compared) == 2 * (STEPS - 1)
    assert recorder.notes == []


def test_one_rank_of_a_group(compared, tmp_path):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(mlp())
        recorder = GradientRecorder(model, every_n_steps=1)
        steps(model, recorder)
    finally:
        dist.destroy_process_group()
    assert [quantity for _, quantity, _ in compared] == ["gradient_norm", "delta_norm"] * (STEPS - 1)
    assert recorder.notes == []


@pytest.mark.parametrize("every", [1, 7, 20])
def test_it_is_once_in_a_thousand_steps_and_each_time_another_layer(monkeypatch, every):
    checked, take = [], SelfCheck.take

    def see(self, recorded, *arguments, **keywords):
        before = len(self._found)
        take(self, recorded, *arguments, **keywords)
        checked.extend((one.recorded.number, one.layer) for one in self._found[before:])

    monkeypatch.setattr(SelfCheck, "take", see)
    monkeypatch.setattr(self_check, "EVERY", 50)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with GradientRecorder(model, every_n_steps=every) as recorder:
        for step in range(160):
            model.zero_grad()
            model(torch.ones(5, 2)).square().sum().backward()
            recorder.before_step(step)
        recorder.flush()
    assert not any(module._forward_hooks for module in model.modules())
    numbers = {1: [1, 51, 101, 151], 7: [1, 56, 112], 20: [1, 60, 120]}[every]
    assert checked == [(number, "01"[turn % 2]) for turn, number in enumerate(numbers) for _ in "ab"]


@pytest.mark.parametrize(("quantity", "name"), [("delta_norm", "norm"), ("gradient_norm", "norms")])
def test_a_number_that_is_wrong_is_said_once_in_the_log_and_in_the_report(
    tmp_path, monkeypatch, caplog, compared, quantity, name
):
    class Plain(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, CLASSES))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def training_step(self, batch, _):
            return F.cross_entropy(self.net(batch[0]), batch[1])

    right = getattr(measure, name)

    def wrong(tensors):
        found = right(tensors)
        return [1.001 * value for value in found] if name == "norms" else 1.001 * found

    monkeypatch.setattr(measure, name, wrong)
    monitor = GradientMonitor(1, verbose=False, flush_every_n_steps=3)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "log_every_n_steps": 1}
    logger = CSVLogger(tmp_path, "", "run")
    trainer = L.Trainer(**quiet, max_epochs=1, logger=logger, enable_checkpointing=False, callbacks=[monitor])
    trainer.fit(Plain(), torch.utils.data.DataLoader(batches(torch.float32, STEPS), batch_size=None))
    (said,) = [record.getMessage() for record in caplog.records if "by plain torch" in record.getMessage()]
    (ours,) = {value for layer, found, value in compared[:2] if found == quantity}
    theirs = monitor.report.first[1].values[quantity]["net.0"]
    assert theirs == pytest.approx(1.001 * ours, rel=1e-5)
    assert said == (
        f"{quantity} of net.0 at step 1 was recorded as {theirs:.6g}, but is {ours:.6g} by plain torch: "
        "no number here can be trusted"
    )
    report = json.loads((tmp_path / "run" / "gradient_report.json").read_text(encoding="utf-8"))
    assert report["not_measured"] == [said]
    assert max(record.step for record in monitor.report.first) == STEPS - 1


def test_an_error_of_the_check_ends_nothing_but_the_check(monkeypatch, compared):
    def fail(_):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(self_check, "_norm", fail)
    model = mlp()
    recorder = GradientRecorder(model, every_n_steps=1)
    assert [record.values["delta_norm"].keys() for record in steps(model, recorder)] == [{"0", "2", "4"}] * STEPS
    assert recorder.notes == ["the monitor does not check itself: ValueError: a fault of ours"]
    assert compared == []
