"""The recorder beside plain autograd, in the same loop, with every optimizer of torch."""

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu.page import Check, NotHereError, Section, Settings
from unvanish import GradientRecorder
from unvanish.gradients import Record

_BATCH, _STEPS, _CLIP, _RTOL = 33, 4, 0.01, 1e-4
_WORDS, _TIMES, _CLASSES = 29, 7, 5
Found = dict[str, dict[str, float]]


class _Dense(nn.Module):
    """Tokens, a convolution, an LSTM and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_WORDS, 16)
        self.convolution = nn.Conv1d(16, 24, 3, padding=1)
        self.lstm = nn.LSTM(24, 24, batch_first=True)
        self.hidden, self.output = nn.Linear(24, 24), nn.Linear(24, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.convolution(self.embedding(x).transpose(1, 2))).transpose(1, 2)
        z: Tensor = self.output(self.hidden(self.lstm(h)[0][:, -1]).tanh())
        return z


class _Matrices(nn.Sequential):
    """Weights of two axes alone, as Muon wants them."""

    def __init__(self) -> None:
        layers = [nn.Linear(24, 24, bias=False), nn.ReLU(), nn.Linear(24, 24, bias=False), nn.Tanh()]
        super().__init__(nn.Embedding(_WORDS, 24), *layers, nn.Flatten(), nn.Linear(24 * _TIMES, _CLASSES, bias=False))


class _Sparse(nn.Sequential):
    """Sparse gradients alone."""

    def __init__(self) -> None:
        super().__init__(nn.EmbeddingBag(_WORDS, _CLASSES, mode="mean", sparse=True))


def checks(settings: Settings) -> Iterator[Check]:
    for name, kind in vars(torch.optim).items():
        if not isinstance(kind, type) or kind is torch.optim.Optimizer or not issubclass(kind, torch.optim.Optimizer):
            continue
        known = inspect.signature(kind).parameters
        variants: list[dict[str, Any]] = [{}]
        variants += [{way: True} for way in ("foreach", "fused") if way in known]
        if "nesterov" in known and "foreach" in known:
            variants += [v | {"momentum": 0.9, "nesterov": True} for v in variants]
        if name == "LBFGS":
            variants = [{"max_iter": 1}]
        for options in variants:
            words = ", ".join(key for key, value in options.items() if value is True)
            yield f"{name}{words and ', ' + words}", partial(_compare, kind, options, settings)


def _compare(kind: Callable[..., torch.optim.Optimizer], options: dict[str, Any], settings: Settings) -> list[str]:
    torch.manual_seed(0)
    network = {"Muon": _Matrices, "SparseAdam": _Sparse}.get(kind.__name__, _Dense)
    model = network().to(settings.device)
    x = torch.randint(_WORDS, (_BATCH, _TIMES)).to(settings.device)
    y = torch.randint(_CLASSES, (_BATCH,)).to(settings.device)
    try:
        optimizer = kind(model.parameters(), lr=0.01, **options)
    except RuntimeError as error:  # torch says so where it has no such kernel
        raise NotHereError(str(error).partition(":")[0]) from error
    layers = {
        name: weights
        for name, module in model.named_modules()
        if (weights := [p for p in module.parameters(recurse=False) if p.dim() >= 2])
    }
    deltas: dict[str, Tensor] = {}
    for name in layers:
        model.get_submodule(name).register_forward_hook(partial(_watch, deltas, name))
    expected: list[Found] = []
    records: list[Record] = []
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(_STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            found: Found = {
                "gradient_norm": {name: _norm([w.grad for w in weights]) for name, weights in layers.items()},
                "delta_norm": {name: _norm([delta]) for name, delta in deltas.items()},
            }
            before = {name: [w.detach().clone() for w in weights] for name, weights in layers.items()}
            recorder.before_step(step)
            _clip(list(model.parameters()))
            found["gradient_norm_clipped"] = {name: _norm([w.grad for w in ws]) for name, ws in layers.items()}
            try:
                optimizer.step(partial(_known, loss))
            except (NotImplementedError, RuntimeError) as error:
                raise NotHereError("torch has none") from error
            recorder.after_step()
            found["update_ratio"] = {
                name: _norm([w - old for w, old in zip(weights, before[name], strict=True)]) / _norm(before[name])
                for name, weights in layers.items()
            }
            expected.append(found)
            if step % 2:  # after the first flush float32 is enough for the recorder
                records += recorder.flush()
    worst = dict.fromkeys(expected[0], 0.0)
    for record, step_found in zip(records, expected, strict=True):
        for quantity, by_layer in step_found.items():
            measured = record.values.get(quantity, {})
            assert measured.keys() == by_layer.keys(), f"{quantity} is of {sorted(measured)}, not of {sorted(by_layer)}"
            for name, value in by_layer.items():
                error = abs(measured[name] - value) / value if value else abs(measured[name])
                worst[quantity] = max(worst[quantity], error if math.isfinite(error) else math.inf)
    for quantity, largest in worst.items():
        assert largest < _RTOL, f"{quantity} is off by {largest:.1e}"
    return [f"{largest:.0e}" for largest in worst.values()]


def _known(loss: Tensor) -> Tensor:
    """A closure for the optimizer that insists on one: the pass has been made."""
    return loss


def _watch(deltas: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    z = output[0] if isinstance(output, tuple) else output
    z.register_hook(partial(deltas.__setitem__, name))


def _clip(parameters: list[nn.Parameter]) -> None:
    """To a norm of _CLIP; by hand, because torch's own takes no sparse gradients."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    total = _norm(gradients)
    for gradient in gradients:
        gradient.mul_(min(1.0, _CLIP / total))


def _norm(tensors: list[Any]) -> float:
    """In float64, on the host: nothing of the recorder's own."""
    parts = [t.detach().coalesce().values() if t.is_sparse else t.detach() for t in tensors]
    return math.sqrt(sum(part.double().cpu().square().sum().item() for part in parts))


SECTION = Section(
    "The recorder and plain autograd",
    f"With every optimizer of torch.optim, {_STEPS} steps: dL/dW; delta, by a hook of another kind; what is left of "
    "dL/dW after clipping, before the optimizer runs; and the update by copies of the weights. The columns are the "
    f"largest relative errors over layers and steps; {_RTOL:.0e} is allowed.",
    ["gradient_norm", "delta_norm", "gradient_norm_clipped", "update_ratio"],
    checks,
)
