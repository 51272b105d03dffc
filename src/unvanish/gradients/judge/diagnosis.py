"""What one batch and one backward pass tell of any model, before it is trained."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from unvanish.gradients.judge.mixing import UnclearError, mixed
from unvanish.gradients.judge.notebook import Displayed
from unvanish.gradients.judge.plan import Batch, Loss, Plan, calls_of
from unvanish.gradients.judge.report import as_dict, json_number, theory_dict, verdict_on
from unvanish.gradients.judge.trials import Trial, Trials, copied, try_remedies
from unvanish.gradients.judge.verdict import Verdict
from unvanish.gradients.quantities.activation import ACTIVATION_MEAN, ACTIVATION_STD
from unvanish.gradients.quantities.dead import DEAD_SHARE
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gradient import GRADIENT_NORM
from unvanish.gradients.quantities.saturated import SATURATED_SHARE
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.theory import Chain, ChainProbe


@dataclass(frozen=True, repr=False)
class Diagnosis(Displayed):
    """What was measured, what it means, and what theory expects.

    Args:
        record: The step that was measured.
        activations: The kind of activation after each layer.
        chain: What mean-field theory needs to know, where it covers the model.
        notes: What could not be measured.
        fixes: What was tried on the same batch, best first; None where nothing was, and the verdict's advice stands.
        trials: What was tried by training; None where nothing was.
    """

    record: Record
    activations: Mapping[str, str]
    chain: Chain | None
    notes: list[str]
    fixes: list[dict[str, Any]] | None = field(default=None)
    trials: Trials | None = field(default=None)

    @property
    def verdict(self) -> Verdict:
        """What the gradient does."""
        return verdict_on(self.record)

    @property
    def expected(self) -> dict[str, float]:
        """|delta| by layer as theory expects it; empty where it covers no such model."""
        return self.chain.expected(self.record.of(DELTA_NORM)) if self.chain else {}

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
        fixes = fixes if self.trials is None else [_as_fix(trial) for trial in self.trials.tried]
        fixes = [{k: json_number(v) if isinstance(v, float) else v for k, v in fix.items()} for fix in fixes]
        return {
            **as_dict(self.verdict),
            "theory": theory_dict(self.chain, self.expected),
            "fixes": fixes,
            "trials": self.trials and _trials_dict(self.trials),
            "through_time": through_time,
            "not_measured": self.notes,
            "layers": layers,
        }

    def __repr__(self) -> str:
        return f"Diagnosis({self.verdict.name!r}, {self.verdict.evidence!r})"

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
        if self.trials:
            parts += _trials_parts(self.trials, {finding.name for finding in self.verdict.findings})
        return "\n\n".join(parts)


def diagnose(
    model: nn.Module,
    batch: Batch | Iterable[Batch],
    loss: Loss,
    steps: int = 0,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
) -> Diagnosis:
    """One forward and one backward pass of ``model`` in train mode; with ``steps``, remedies tried by training copies.

    Two forward passes in evaluation mode then show whether answers depend on other samples of the batch.

    The model, its gradients, its buffers and torch's random numbers are what they were afterwards.

    Args:
        model: Any module with a weight that trains.
        batch: (x, y), on the model's device; ``model(x)`` is called. Or several of them, which training takes in turns.
        loss: Called with the model's output and y; returns a scalar.
        steps: Of each training; 0 trains nothing.
        optimizer: Makes an optimizer of parameters; Adam with a learning rate of 1e-3, if None.

    Raises:
        ValueError: the model has no weight that trains, or the loss does not depend on one; or it cannot be copied.
    """
    batches = _batches(batch, max(1, steps))
    with _left_alone(model), torch.random.fork_rng():
        if not steps:
            return _diagnose(model, batches[0], loss)
        found, plan = planned(model, batches, loss, steps, optimizer or Adam)
        return replace(found, trials=try_remedies(plan, found.verdict.findings))


def planned(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Loss,
    steps: int,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
) -> tuple[Diagnosis, Plan]:
    """What the first batch shows, and how a copy of the model is to be trained."""
    if isinstance(optimizer, Optimizer):
        raise ValueError("optimizer is an instance; give a function that makes one from parameters")
    # A pass may leave what cannot be copied, and buffers that have moved.
    spare, other = copied(model).train(), copied(model).train()
    found = _diagnose(copied(model).train(), batches[0], loss)
    calls = calls_of(other, batches[0][0])
    plan = Plan(
        spare, batches, loss, lambda m: optimizer(m.parameters()), steps, found.record, found.activations, calls
    )
    return found, plan


def _batches(given: Batch | Iterable[Batch], steps: int) -> list[Batch]:
    """A batch by itself is told from several by its y, which is a tensor."""
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Tensor):
        return [(given[0], given[1])]
    batches = [(x, y) for x, y in islice(given, steps)]
    if not batches:
        raise ValueError("there is no batch to diagnose")
    return batches


def _diagnose(model: nn.Module, batch: Batch, loss: Loss) -> Diagnosis:
    if not any(parameter.requires_grad and parameter.dim() > 1 for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no weight that trains, so there is no gradient to record")
    x, y = batch
    with GradientRecorder(model) as recorder:
        probe = ChainProbe(model)
        value = loss(model(x), y)
        if value.dim() or not value.requires_grad:
            raise ValueError(f"the loss must be a scalar with a gradient; it is {tuple(value.shape)}")
        recorder.before_backward(value)
        value.backward()  # type: ignore[no-untyped-call]
        recorder.before_step(0)
        (record,) = recorder.flush()
    notes = recorder.notes
    try:
        record = replace(record, mixed=mixed(model, x, y))
    except UnclearError as why:
        notes.append(f"whether samples mix was not looked at: {why}")
    return Diagnosis(record, recorder.activations, probe.chain(), notes)


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


def _trials_parts(trials: Trials, known: Container[str]) -> list[str]:
    """The table of trials, and what it comes to; of what the first training shows, what was not ``known``."""
    verdict = trials.unchanged.verdict
    names = ", ".join(finding.name for finding in verdict.findings) or verdict.name
    told = [f"after {trials.steps} steps without change: {names}"]
    told += [str(finding) for finding in verdict.findings if finding.name not in known]
    mean = f"the mean of {len(trials.tried) - trials.lost}"
    drawn = ("one of these at random", mean, f"{trials.random_loss:.4g}", "")
    rows = [_row(trial) for trial in trials.tried] + ([drawn] if trials.tried else []) + [_row(trials.unchanged)]
    parts = ["\nand ".join(told)]
    parts.append(table((f"remedy, {trials.steps} steps each", "what it changes", "loss reached", "verdict"), rows))
    if trials.lost:
        parts.append(
            f"{trials.lost} of {len(trials.tried)} ended with a NaN or infinite loss, and are left out of the mean"
        )
    reasons: dict[str, list[str]] = {}
    for words, why in trials.skipped.items():
        reasons.setdefault(f"not tried, {why}" if why else "left to you", []).append(words)
    parts += [f"{why}: {'; '.join(several)}" for why, several in reasons.items()]
    reached = f"a loss of {trials.unchanged.loss:.4g}"
    if trials.best:
        best = f"remedy: {trials.best.remedy}, which reaches a loss of {trials.best.loss:.4g}"
        parts.append(f"{best} where no change reaches {trials.unchanged.loss:.4g}")
        if not trials.best.learns:
            parts.append(
                "even so the loss is more than half of the initial one or of a constant prediction's: try more "
                "steps, or two of these"
            )
    elif trials.tried:
        parts.append(f"none of these helps: without a change the loss reaches {reached}, and none gets 5 % below that")
    elif trials.unchanged.learns:
        parts.append(f"it learns as it is, and reaches {reached}: nothing else was tried")
    else:
        parts.append(f"it reaches {reached}, and no remedy fits")
    return parts


def _row(trial: Trial) -> tuple[str, str, str, str]:
    changes = ", ".join(f"{name}: {value}" for name, value in trial.changes.items())
    return trial.remedy, changes, f"{trial.loss:.4g}", trial.verdict.name


def _as_fix(trial: Trial) -> dict[str, Any]:
    """A trial as one of the fixes."""
    found = {"fix": trial.remedy, "changes": dict(trial.changes), "loss": trial.loss, "verdict": trial.verdict.name}
    return found | {"learns": trial.learns, "named": trial.is_named}


def _trials_dict(trials: Trials) -> dict[str, Any]:
    """What there is beside the fixes, in what JSON knows."""
    unchanged = trials.unchanged
    return {
        "steps": trials.steps,
        "best": trials.best and trials.best.remedy,
        "no_change": {"loss": json_number(unchanged.loss), "learns": unchanged.learns, **as_dict(unchanged.verdict)},
        "random_loss": json_number(trials.random_loss),
        "not_finite": trials.lost,
        "not_tried": dict(trials.skipped),
    }


#: What stands beside |delta| in a table of layers, by its column's head.
_COLUMNS = {
    DELTA_NORM: "|delta|",
    GRADIENT_NORM: "|dL/dW|",
    ACTIVATION_MEAN: "mean",
    ACTIVATION_STD: "std",
    SATURATED_SHARE: "saturated",
    DEAD_SHARE: "dead",
}


def _layers_table(record: Record, activations: Mapping[str, str], expected: Mapping[str, float]) -> str:
    names = dict.fromkeys([*record.of(DELTA_NORM), *record.of(GRADIENT_NORM)])
    columns = [("layer", list(names))]
    for quantity, head in _COLUMNS.items():
        found = record.of(quantity)
        columns.append((head, [format(found[n], quantity.form) if n in found else "" for n in names]))
    columns.insert(2, ("theory", [format(expected[name], ".1e") if name in expected else "" for name in names]))
    columns.insert(4, ("activation", [activations.get(name, "") for name in names]))
    filled = [(head, cells) for head, cells in columns if any(cells)]
    rows = [tuple(cells[index] for _, cells in filled) for index in range(len(names))]
    return table(tuple(head for head, _ in filled), rows)


def _time_table(name: str, norms: Mapping[int, float]) -> str:
    return table((f"t of {name}", "|dL/dh_t|"), [(str(t), f"{norm:.1e}") for t, norm in norms.items()])
