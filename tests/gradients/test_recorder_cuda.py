import inspect
import math
from functools import partial

import pytest
import torch
from autograd_twin import layers_of
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

pytestmark = pytest.mark.gpu
BATCH, TIMES, FEATURES, CLASSES = 11, 7, 5, 3
OPTIMIZERS = [
    torch.optim.SGD,
    partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    torch.optim.RMSprop,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adagrad,
]


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.leave = nn.LSTM(FEATURES, 13, batch_first=True), nn.Linear(13, CLASSES)

    def forward(self, x):
        return self.leave(self.lstm(x)[0][:, -1])


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(FEATURES, 12), nn.Linear(12, CLASSES)
        self.block = nn.TransformerEncoderLayer(12, 3, 13, dropout=0.0, batch_first=True, norm_first=True)

    def forward(self, x):
        return self.leave(self.block(self.enter(x)).mean(1))


NETWORKS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(TIMES * FEATURES, 13),
        nn.ReLU(inplace=True),
        nn.Linear(13, 13),
        nn.Tanh(),
        nn.Linear(13, CLASSES),
    ),
    "cnn": lambda: nn.Sequential(
        nn.Conv1d(TIMES, 13, 3), nn.BatchNorm1d(13), nn.Sigmoid(), nn.Flatten(), nn.Linear(39, CLASSES)
    ),
    "lstm": Reads,
    "transformer": Attends,
}


def ways_of(kind):
    """How an optimizer may run: tensor by tensor, as torch chooses, and in one kernel or few."""
    known = inspect.signature(kind).parameters
    return [{}, {"foreach": False}, *({way: True} for way in ("foreach", "fused") if way in known)]


def new(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().cuda()
    return model, torch.randn(BATCH, TIMES, FEATURES).cuda(), torch.randint(CLASSES, (BATCH,)).cuda()


@pytest.mark.parametrize("way", [{"foreach": True}, {"fused": True}], ids=["foreach", "fused"])
@pytest.mark.parametrize("clip", [False, True], ids=["whole", "clipped"])
@pytest.mark.parametrize("name", NETWORKS)
def test_between_two_flushes_the_host_never_waits_for_the_device(name, clip, way):
    model, x, y = new(name)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, **way)
    with GradientRecorder(model, every_n_steps=2, first_steps=3, histogram_every_n_steps=2) as recorder:
        for flush in range(2):
            torch.cuda.set_sync_debug_mode("error")
            try:
                for step in range(9):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y).backward()
                    recorder.before_step(9 * flush + step, batch_size=BATCH)
                    if clip:
                        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
                    optimizer.step()
                    recorder.after_step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert len(recorder.flush()) == 9


def test_a_host_that_waits_is_seen():
    model, x, _ = new("mlp")
    model[1].register_forward_hook(lambda module, inputs, output: print(output.sum().item()))
    torch.cuda.set_sync_debug_mode("error")
    try:
        with GradientRecorder(model), pytest.raises(RuntimeError, match="synchroniz"):
            model(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def norm(tensors):
    return math.sqrt(sum(tensor.detach().double().cpu().square().sum().item() for tensor in tensors))


CASES = [(kind, way) for kind in OPTIMIZERS for way in ways_of(kind)]


@pytest.mark.parametrize(
    ("kind", "way"), CASES, ids=[f"{getattr(k, 'func', k).__name__}{getattr(k, 'keywords', '')}{w}" for k, w in CASES]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_recorded_is_what_autograd_and_copies_say_however_the_optimizer_runs(name, kind, way):
    model, x, y = new(name)
    optimizer = kind(model.parameters(), lr=0.01, **way)
    layers = layers_of(model)
    expected, records = [], []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            found = {"gradient_norm": {n: norm(w.grad for w in weights) for n, weights in layers.items()}}
            before = {n: [w.detach().clone() for w in weights] for n, weights in layers.items()}
            recorder.before_step(step)
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            found["gradient_norm_clipped"] = {n: norm(w.grad for w in weights) for n, weights in layers.items()}
            try:
                optimizer.step()
            except (NotImplementedError, RuntimeError) as error:
                pytest.skip(f"torch has none for CUDA: {error}")
            recorder.after_step()
            found["update_ratio"] = {
                n: norm(w - old for w, old in zip(weights, before[n], strict=True)) / norm(before[n])
                for n, weights in layers.items()
            }
            expected.append(found)
            if step % 2:  # after the first flush float32 is enough for the recorder
                records += recorder.flush()
    assert len(records) == len(expected)
    for record, found in zip(records, expected, strict=True):
        for quantity, values in found.items():
            assert record.values[quantity] == pytest.approx(values, rel=1e-5), (record.step, quantity)
