"""The raw loops of Accelerate and of Fabric, as docs/MONITOR.md has them, beside the plain one."""

import copy
import importlib.util
import os

import pytest
import torch
from autograd_twin import Twin
from torch.utils.data import DataLoader, TensorDataset

from unvanish.gradients import GradientRecorder

os.environ["HF_HUB_OFFLINE"] = "1"
FEATURES, CLASSES, BATCH, BATCHES = 5, 3, 7, 12
ACTIVATIONS = {"0": ("tanh", "1"), "2": ("relu", "3"), "4": ("identity", lambda z: z)}


def network():
    torch.manual_seed(0)
    tanh, relu = torch.nn.Tanh(), torch.nn.ReLU()
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, 11), tanh, torch.nn.Linear(11, 13), relu, torch.nn.Linear(13, CLASSES)
    )


def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH * BATCHES, FEATURES, generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(CLASSES, (len(x),), generator=generator)), BATCH)


def in_a_plain_loop(micro_batches, model, optimizer, loss):
    with GradientRecorder(model, 4) as recorder:
        for i, (x, y) in enumerate(batches()):
            (loss(model(x), y) / micro_batches).backward()
            if (i + 1) % micro_batches == 0:
                recorder.before_step(i // micro_batches)
                optimizer.step()
                recorder.after_step()
                optimizer.zero_grad()
        return recorder.flush()


def in_accelerate_s(micro_batches, model, optimizer, loss):
    from accelerate import Accelerator

    accelerator, step = Accelerator(cpu=True, gradient_accumulation_steps=micro_batches), 0
    model, optimizer, loader = accelerator.prepare(model, optimizer, batches())
    with GradientRecorder(model, 4) as recorder:
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(loss(model(x), y))
                if accelerator.sync_gradients:
                    recorder.before_step(step)
                optimizer.step()
                if accelerator.sync_gradients:
                    recorder.after_step()
                    step += 1
                optimizer.zero_grad()
        return recorder.flush()


def in_fabric_s(micro_batches, model, optimizer, loss):
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu")
    recorder = GradientRecorder(model, 4)
    model, optimizer = fabric.setup(model, optimizer)
    with recorder:
        for i, (x, y) in enumerate(fabric.setup_dataloaders(batches())):
            is_last = (i + 1) % micro_batches == 0
            with fabric.no_backward_sync(model, enabled=not is_last):
                fabric.backward(loss(model(x), y) / micro_batches)
            if is_last:
                recorder.before_step(i // micro_batches)
                optimizer.step()
                recorder.after_step()
                optimizer.zero_grad()
        return recorder.flush()


@pytest.mark.filterwarnings("ignore:.*no_backward_sync.*")
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("loop", [in_a_plain_loop, in_accelerate_s, in_fabric_s])
def test_the_values_are_plain_autograd_s_and_those_of_the_plain_loop(loop, micro_batches):
    if loop is in_accelerate_s and not importlib.util.find_spec("accelerate"):
        pytest.skip("accelerate is not installed; the extra 'test' brings it")
    loss = torch.nn.functional.cross_entropy
    found = []
    for run in (loop, in_a_plain_loop):
        model = network()
        found.append(run(micro_batches, model, torch.optim.SGD(model.parameters(), 0.1), loss))
    records, plain = found
    assert len(records) == len(plain) == BATCHES // micro_batches
    for record, other in zip(records, plain, strict=True):
        assert record.values.keys() == other.values.keys()
        for quantity, values in record.values.items():
            assert values == pytest.approx(other.values[quantity], rel=1e-5), quantity
        assert record.totals == pytest.approx(other.totals, rel=1e-5)
    twin = network()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    parts = [*batches()]
    for record in records:
        step, parts = parts[:micro_batches], parts[micro_batches:]
        expected = Twin(copy.deepcopy(twin), step)
        assert record.totals["gradient_norm"] == pytest.approx(expected.gradient_of_all, rel=1e-5)
        for quantity, layers in expected.values(ACTIVATIONS).items():
            if quantity in ("gradient_norm", "gradient_rms") or record.is_full:
                assert record.values[quantity] == pytest.approx(layers, rel=1e-5), quantity
        optimizer.zero_grad()
        sum(loss(twin(x), y) / micro_batches for x, y in step).backward()
        optimizer.step()
