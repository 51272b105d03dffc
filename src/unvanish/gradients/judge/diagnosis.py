"""What one batch and one backward pass tell of any model, before it is trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.gradients.judge.report import as_dict, json_number, theory_dict, verdict_on
from unvanish.gradients.judge.verdict import Verdict
from unvanish.gradients.quantities import QUANTITIES
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.theory import Chain, ChainProbe


@dataclass(frozen=True)
class Diagnosis:
    """What was measured, what it means, and what theory expects.

    Args:
        record: The step that was measured.
        activations: The kind of activation after each layer.
        chain: What mean-field theory needs to know, where it covers the model.
        notes: What could not be measured.
        fixes: What was tried on the same batch, best first; None where nothing was, and the verdict's advice stands.
    """

    record: Record
    activations: Mapping[str, str]
    chain: Chain | None
    notes: list[str]
    fixes: list[dict[str, Any]] | None = field(default=None)

    @property
    def verdict(self) -> Verdict:
        """What the gradient does."""
        return verdict_on(self.record)

    @property
    def expected(self) -> dict[str, float]:
        """|delta| by layer as theory expects it; empty where it covers no such model."""
        return self.chain.expected(self.record.values.get("delta_norm", {})) if self.chain else {}

    def as_dict(self) -> dict[str, Any]:
        """All of it, in what JSON knows."""
        values = self.record.values
        names = dict.fromkeys(name for found in values.values() for name in found)
        layers: list[dict[str, Any]] = [
            {"name": name, "activation": self.activations.get(name)}
            | {quantity: json_number(found[name]) for quantity, found in values.items() if name in found}
            for name in names
        ]
        through_time = {
            name: {str(t): json_number(norm) for t, norm in norms.items()}
            for name, norms in self.record.through_time.items()
        }
        fixes = [{"fix": fix} for fix in self.verdict.fixes] if self.fixes is None else self.fixes
        fixes = [{k: json_number(v) if isinstance(v, float) else v for k, v in fix.items()} for fix in fixes]
        return {
            **as_dict(self.verdict),
            "theory": theory_dict(self.chain, self.expected),
            "fixes": fixes,
            "through_time": through_time,
            "not_measured": self.notes,
            "layers": layers,
        }

    def __str__(self) -> str:
        parts = [_layers_table(self.record, self.activations, self.expected)]
        parts += [_time_table(name, norms) for name, norms in self.record.through_time.items()]
        parts.append(str(self.verdict))
        if self.chain:
            parts.append(
                f"theory: a factor of {self.chain.factor_per_layer:.3g} a layer; "
                f"measured: {self.verdict.factor_per_layer:.3g}"
            )
        parts += self.notes
        if self.fixes:
            head = ("fix, on the same batch", "factor a layer", "first/last", "verdict")
            rows = [
                (fix["fix"], f"{fix['factor_per_layer']:.3g}", f"{fix['first_over_last']:.1e}", fix["verdict"])
                for fix in self.fixes
            ]
            parts.append(table(head, rows))
        return "\n\n".join(parts)


def diagnose(model: nn.Module, batch: tuple[Any, Tensor], loss: Callable[[Any, Tensor], Tensor]) -> Diagnosis:
    """One forward and one backward pass of ``model`` in train mode; then it is as it was.

    Args:
        model: Any module with a weight that trains.
        batch: (x, y), on the model's device; ``model(x)`` is called.
        loss: Called with the model's output and y; returns a scalar.

    Raises:
        ValueError: the model has no weight that trains, or the loss does not depend on one.
    """
    x, y = batch
    if not any(parameter.requires_grad and parameter.dim() > 1 for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no weight that trains, so there is no gradient to record")
    with _left_alone(model), torch.random.fork_rng(), GradientRecorder(model) as recorder:
        probe = ChainProbe(model)
        value = loss(model(x), y)
        if value.dim() or not value.requires_grad:
            raise ValueError(f"the loss must be a scalar with a gradient; it is {tuple(value.shape)}")
        recorder.before_backward(value)
        value.backward()  # type: ignore[no-untyped-call]
        recorder.before_step(0)
        (record,) = recorder.flush()
        return Diagnosis(record, recorder.activations, probe.chain(), recorder.notes)


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Train mode without gradients from before; afterwards modes, gradients and buffers are what they were.

    Not a copy of the model: some cannot be copied, as where a weight is computed from others at each call.
    """
    modes = {module: module.training for module in model.modules()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    try:
        model.train()
        for parameter in gradients:
            parameter.grad = None
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers.items():
                buffer.copy_(before)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


#: What stands beside |delta| in a table of layers, by its column's head.
_COLUMNS = {
    "delta_norm": "|delta|",
    "gradient_norm": "|dL/dW|",
    "activation_mean": "mean",
    "activation_std": "std",
    "saturated_share": "saturated",
    "dead_share": "dead",
}


def _layers_table(record: Record, activations: Mapping[str, str], expected: Mapping[str, float]) -> str:
    names = dict.fromkeys(name for q in ("delta_norm", "gradient_norm") for name in record.values.get(q, {}))
    columns = [("layer", list(names))]
    for quantity in sorted((q for q in QUANTITIES if q.name in _COLUMNS), key=lambda q: [*_COLUMNS].index(q.name)):
        found = record.values.get(quantity.name, {})
        columns.append(
            (_COLUMNS[quantity.name], [format(found[n], quantity.form) if n in found else "" for n in names])
        )
    columns.insert(2, ("theory", [format(expected[name], ".1e") if name in expected else "" for name in names]))
    columns.insert(4, ("activation", [activations.get(name, "") for name in names]))
    filled = [(head, cells) for head, cells in columns if any(cells)]
    rows = [tuple(cells[index] for _, cells in filled) for index in range(len(names))]
    return table(tuple(head for head, _ in filled), rows)


def _time_table(name: str, norms: Mapping[int, float]) -> str:
    return table((f"t of {name}", "|dL/dh_t|"), [(str(t), f"{norm:.1e}") for t, norm in norms.items()])
