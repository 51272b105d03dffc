"""Trains a network twice, with the recorder and without, and checks all that the recorder says by other means."""

import hashlib
import math
import random
import re
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.architectures.order import misplaced, wholly_downstream
from benchmarks.architectures.specimen import CannotRunError, Specimen, tensors
from unvanish.gradients import GradientRecorder, Record, Report

STEPS, LEARNING_RATE, RELATIVE = 3, 1e-3, 1e-5
#: What is checked of every network; a finding of a network is a list of sentences under one of these.
CHECKS = {
    "identical": "parameters, buffers and losses after three steps are bit for bit those without the recorder",
    "gradients": "every |dL/dW| is that of p.grad in float64, every weight is measured or named",
    "deltas": "every |delta| is that of a tensor hook of our own, every layer that was called is measured or named",
    "order": "no layer comes after one that is made of it in autograd's graph",
    "runs": "the recorder raises nothing",
    "verdict": "the verdict of the first step is healthy",
}
Findings = dict[str, list[str]]
Build = Callable[[], Specimen]


class Plain:
    """Watches nothing."""

    def begin(self, model: nn.Module) -> None: ...
    def after_forward(self, loss: Tensor) -> None: ...
    def after_backward(self, step: int) -> None: ...
    def after_update(self) -> None: ...
    def end(self) -> None: ...


class Twin(Plain):
    """The recorder, and beside it hooks and norms of our own.

    A layer's module is found by the layer's name: that of a module, or of a parameter which is a layer of its own, or
    the class of the whole network. A weight's layer is the weight's own name, else its module's, else the nearest
    module above it, whichever is first among the recorder's layers.
    """

    def begin(self, model: nn.Module) -> None:
        self.recorder = GradientRecorder(model)
        self.layers = list(self.recorder.layers)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        self.single = {layer: parameters[layer] for layer in self.layers if layer in parameters}
        names: dict[nn.Parameter, list[str]] = defaultdict(list)
        for name, parameter in parameters.items():
            names[parameter].append(name)
        root = type(model).__name__
        self.weights = {
            all_names[0]: (weight, next(filter(None, (self._layer_of(name, root) for name in all_names)), None))
            for weight, all_names in names.items()
            if weight.dim() >= 2 and weight.numel() and weight.requires_grad
        }
        gains = (weight for name, weight in parameters.items() if not name.endswith("bias"))
        self.zeros = sum(weight.numel() > 0 and not weight.detach().any() for weight in gains)
        self.gradients: list[dict[str, float]] = []
        self.deltas: list[dict[str, float]] = []
        self.called: dict[str, None] = {}
        self.after: dict[str, set[str]] = defaultdict(set)
        self._hooked(model, root)
        self._clear()
        self.recorder.__enter__()

    def _layer_of(self, name: str, root: str) -> str | None:
        if name in self.layers:
            return name
        path = name.partition("parametrizations.")[0].rstrip(".") if "parametrizations." in name else _parent(name)
        while path and path not in self.layers:
            path = _parent(path)
        return path or (root if root in self.layers else None)

    def _hooked(self, model: nn.Module, root: str) -> None:
        modules = dict(model.named_modules(remove_duplicate=False))
        for layer in self.layers:
            if layer not in self.single:
                module = modules.get(layer, model)
                if module is model and layer != root:
                    raise CannotRunError(f"the recorder's layer {layer} is no module and no parameter")
                module.register_forward_hook(lambda of, _, output, layer=layer: self._see(layer, of, output))

    def _clear(self) -> None:
        self._norms: dict[str, list[float]] = defaultdict(list)
        #: The calls of layers by node of autograd's graph; a parameter that is a layer is called by its use.
        self._calls = {
            torch.autograd.graph.get_gradient_edge(w).node: layer for layer, w in self.single.items() if w.requires_grad
        }

    def _see(self, layer: str, module: nn.Module, output: Any) -> None:
        z = next(tensors(output), None)
        if z is not None and z.requires_grad:
            self.called[layer] = None
            # Of a sequence a linear layer returns a view, which leaves the graph where it is changed in place.
            whole = z._base if isinstance(module, nn.Linear) and z._base is not None and z._base.requires_grad else z
            self._calls[whole.grad_fn] = layer
            whole.register_hook(lambda delta: self._see_delta(layer, delta))

    def _see_delta(self, layer: str, delta: Tensor | None) -> None:
        # A fused recurrent layer of which the loss uses the state alone brings None; no tokens have no delta.
        if delta is not None and delta.numel():
            self._norms[layer].append(_norm(delta))

    def after_forward(self, loss: Tensor) -> None:
        for layer, others in wholly_downstream(loss.grad_fn, self._calls).items():
            self.after[layer] |= others

    def after_backward(self, step: int) -> None:
        norms: dict[str, list[float]] = defaultdict(list)
        for name, (weight, layer) in self.weights.items():
            if weight.grad is not None:
                norms[layer or name].append(_norm(weight.grad))
        self.gradients.append({layer: math.hypot(*found) for layer, found in norms.items()})
        self.deltas.append({layer: math.hypot(*found) for layer, found in self._norms.items()})
        self._clear()
        self.recorder.before_step(step)

    def after_update(self) -> None:
        self.recorder.after_step()

    def end(self) -> None:
        self.records: list[Record] = self.recorder.flush()
        self.recorder.__exit__(None, None, None)

    def findings(self) -> Findings:
        """What the recorder got wrong, or left unsaid."""
        measured = {layer for found in self.gradients for layer in found}
        with_delta = {layer for found in self.deltas for layer in found}
        weights, outputs = _Named(self.recorder, "dL/dW|gradient|weight"), _Named(self.recorder, "delta|dL/dz")
        return {
            "gradients": [
                *_compare(self.gradients, [record.values.get("gradient_norm", {}) for record in self.records], weights),
                *weights.unsaid({layer or name for name, (_, layer) in self.weights.items()} - measured, "no gradient"),
            ],
            "deltas": [
                *_compare(self.deltas, [record.values.get("delta_norm", {}) for record in self.records], outputs),
                *outputs.unsaid({*self.called} - with_delta, "called, and its first tensor has no part in the loss"),
                *outputs.unsaid(
                    measured - with_delta - {*self.called, *self.single},
                    "a gradient, and was not called, or returned nothing to differentiate",
                ),
            ],
            "order": misplaced(self.recorder.layers, self.after),
        }

    def verdict(self) -> tuple[str, str]:
        """The status of the first step, its evidence, and how many weights were zero by design."""
        report = Report()
        report.add(self.records[:1])
        zeros = f" ({self.zeros} weights or gains begin at 0)" if self.zeros else ""
        return report.start.name, " ".join(str(report.start.evidence).split()) + zeros


def check(build: Build) -> dict[str, Any]:
    """What is found of one network, as a row of the table."""
    try:
        expected = _train(build, Plain())
    except CannotRunError:
        raise
    except Exception as error:
        raise _memory(error) or CannotRunError(_short(error)) from error
    twin = Twin()
    try:
        given = _train(build, twin)
        findings = twin.findings()
        status, evidence = twin.verdict()
    except CannotRunError:
        raise
    except Exception as error:
        if out_of_memory := _memory(error):
            raise out_of_memory from error
        if _is_ours(error):
            raise
        return {"findings": {"runs": [_short(error)]}}
    differences = _differences(expected, given)
    is_random = bool(differences) and bool(_differences(expected, _train(build, Plain())))
    findings["identical"] = [] if is_random else differences
    findings["verdict"] = [] if status == "healthy" else [f"{status}: {evidence}"]
    return {
        "findings": {key: found for key, found in findings.items() if found},
        "is_random": is_random,
        "layers": len(twin.layers),
        "gradients": len(twin.records[0].values.get("gradient_norm", {})),
        "deltas": len(twin.records[0].values.get("delta_norm", {})),
        "verdict": status,
    }


def _train(build: Build, watch: Plain) -> dict[str, str]:
    """The bits of all parameters, buffers and losses after a few steps."""
    _seed()
    specimen = build()
    model = specimen.model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise CannotRunError("it has no parameter that trains")
    optimizer = torch.optim.SGD(trained, LEARNING_RATE)
    watch.begin(model)
    _seed()
    bits = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = specimen.loss()
        watch.after_forward(loss)
        loss.backward()
        bits[f"loss {step}"] = _bits(loss)
        del loss
        watch.after_backward(step)
        optimizer.step()
        watch.after_update()
    watch.end()
    bits |= {name: _bits(parameter) for name, parameter in model.named_parameters()}
    return bits | {name: _bits(buffer) for name, buffer in model.named_buffers()}


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _bits(tensor: Tensor) -> str:
    """A digest of a tensor's bits: unlike ``torch.equal`` it knows a NaN again, and no second copy is kept."""
    plain = tensor.detach().contiguous().flatten()
    return hashlib.sha256(plain.view(torch.uint8).numpy() if plain.numel() else b"").hexdigest()


def _norm(tensor: Tensor) -> float:
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return float(
        torch.linalg.vector_norm(torch.view_as_real(tensor) if tensor.is_complex() else tensor, dtype=torch.float64)
    )


def _differences(expected: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    names = [name for name in {**expected, **given} if expected.get(name) != given.get(name)]
    return [f"{len(names)} of {len(expected)} differ: {_few(names)}"] if names else []


def _compare(
    expected: Iterable[Mapping[str, float]], given: Iterable[Mapping[str, float]], named: "_Named"
) -> list[str]:
    for step, (ours, theirs) in enumerate(zip(expected, given, strict=True)):
        for what, layers in (
            ("not recorded", [layer for layer in ours if layer not in theirs and layer not in named.layers]),
            ("recorded of nothing", [layer for layer in theirs if layer not in ours]),
            ("wrong", [layer for layer in ours if layer in theirs and not _is_close(ours[layer], theirs[layer])]),
        ):
            if layers:
                numbers = f"{ours.get(layers[0])} ours, {theirs.get(layers[0])} recorded"
                return [f"{what} at step {step} of {len(layers)} layers: {_few(layers)} ({numbers})"]
    return []


def _is_close(ours: float, theirs: float) -> bool:
    return math.isclose(ours, theirs, rel_tol=RELATIVE) or (math.isnan(ours) and math.isnan(theirs))


class _Named:
    """The layers of which the recorder says that a quantity was not measured; its sentences may only count some."""

    def __init__(self, recorder: GradientRecorder, quantity: str) -> None:
        self.layers: set[str] = set()
        self.others = 0
        for note in recorder.notes:
            found = re.fullmatch(r"(.+?) of (.+) was not measured: .+", note, re.DOTALL)
            if found and re.search(quantity, found[1]):
                *names, last = re.split(r", | and (?=\d+ more)| and ", found[2])
                count = re.fullmatch(r"(\d+) more layers?", last)
                self.layers.update(names if count else [*names, last])
                self.others += int(count[1]) if count else 0
        for what, reasons in getattr(recorder, "not_measured", {}).items():
            if re.search(quantity, what):
                self.layers.update(reasons)
                self.others = 0

    def unsaid(self, layers: set[str], why: str) -> list[str]:
        """A finding where some of ``layers`` are not named, nor can be among those that are only counted."""
        missing = sorted(layers - self.layers)
        if len(missing) <= self.others:
            return []
        return [f"unsaid of {len(missing)} layers: {_few(missing)} ({why})"]


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _is_ours(error: Exception) -> bool:
    """Whether an error is one of these checks, and not of the recorder or of torch under its hooks."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent == Path(__file__).parent


def _memory(error: Exception) -> MemoryError | None:
    return MemoryError() if isinstance(error, MemoryError) or "allocate memory" in str(error) else None


def _short(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
