"""Remedies tried by training: each for as many steps, from the same seed, on the same batches."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import nn

from unvanish.gradients.judge.finding import Finding
from unvanish.gradients.judge.plan import Plan
from unvanish.gradients.judge.remedies import REMEDIES, Remedy
from unvanish.gradients.judge.report import Report
from unvanish.gradients.judge.verdict import Verdict
from unvanish.gradients.recorder import GradientRecorder

#: A remedy helps where the loss that it reaches is lower by this share of what is reached without it.
HELPS = 0.05
#: The loss that is reached is the mean over this share of the steps, the last ones; or over so many of them.
LAST, LEAST = 0.1, 20
#: If the loss is not this share below the best constant prediction's, everything that fits is tried, named or not.
ENOUGH = 0.5
#: Steps between two looks at whether the loss is a number still.
_LOOK = 25


@dataclass(frozen=True)
class Trial:
    """A training, and what came of it.

    Args:
        remedy: What was tried.
        changes: What that is, by name.
        loss: Mean over the last steps, in the units of the network without any remedy; NaN or infinite where it ended
            so.
        verdict: On the last steps.
        learns: Whether it is known to have come well below the best constant prediction; else, below its own start.
        is_named: Whether a finding names it.
    """

    remedy: str
    changes: Mapping[str, Any]
    loss: float
    verdict: Verdict
    learns: bool
    is_named: bool = True


@dataclass(frozen=True)
class Trials:
    """What each remedy has reached.

    Args:
        steps: Of each training.
        unchanged: The training without a remedy.
        tried: Those with one, the lowest loss first.
        skipped: What the findings name and was not tried, and why; no reason where no trial of this kind could.
    """

    steps: int
    unchanged: Trial
    tried: Sequence[Trial]
    skipped: Mapping[str, str]

    @property
    def best(self) -> Trial | None:
        """The trial with the lowest loss, if it helps at all."""
        return next((trial for trial in self.tried[:1] if helps(trial.loss, self.unchanged.loss)), None)

    @property
    def lost(self) -> int:
        """How many trials have ended with a loss that is no number."""
        return sum(not math.isfinite(trial.loss) for trial in self.tried)

    @property
    def random_loss(self) -> float:
        """The loss to be expected of one of the trials drawn at random, of those that have one; NaN without any."""
        known = [trial.loss for trial in self.tried if math.isfinite(trial.loss)]
        return fmean(known) if known else math.nan


def helps(loss: float, unchanged: float) -> bool:
    """Whether a loss is lower by enough to be told."""
    if not math.isfinite(loss) or not math.isfinite(unchanged):
        return math.isfinite(loss)
    return unchanged - loss >= HELPS * abs(unchanged) > 0


def try_remedies(
    plan: Plan, findings: Sequence[Finding], remedies: Sequence[Remedy] = REMEDIES, seed: int = 0
) -> Trials:
    """Train without a remedy, then with each that a finding names; with all that fit, where the network learns nothing.

    Args:
        plan: Whose model is copied for each training, and stays as it is.
        findings: Before any training; what the first training shows comes on top.
        remedies: Those that can be applied.
        seed: Fixes what is drawn anew, and dropout.
    """
    unchanged = trained(replace(plan, model=copied(plan.model)), "no change", seed)
    findings = [*findings, *unchanged.verdict.findings]
    wanted: dict[str, tuple[Sequence[str], str]] = {}
    skipped: dict[str, str] = {}
    for finding in findings:
        for words in finding.remedies:
            meant = [remedy for remedy in remedies if remedy.is_meant(words)]
            for remedy in meant:
                wanted.setdefault(remedy.name, (finding.layers, words))
            if not meant:
                skipped[words] = ""
    tried = []
    for remedy in remedies:
        if remedy.name not in wanted and (unchanged.learns or not remedy.is_general):
            continue
        layers, words = wanted.get(remedy.name, ((), ""))
        try:
            trial = attempt(plan, remedy, layers, seed)
        except Exception as error:  # a network that is changed without its source may break in any way
            skipped |= {remedy.name: str(error).partition("\n")[0]} if words else {}
            continue
        tried.append(replace(trial, is_named=bool(words)))
    tried.sort(key=lambda trial: trial.loss if math.isfinite(trial.loss) else math.inf)
    return Trials(plan.steps, unchanged, tried, skipped)


def attempt(plan: Plan, remedy: Remedy, layers: Sequence[str] = (), seed: int = 0) -> Trial:
    """Train a copy with a remedy.

    Raises:
        UnfitError: it does not fit; or any error that the changed network makes.
    """
    torch.manual_seed(seed)
    return trained(remedy.apply(replace(plan, model=copied(plan.model), layers=layers)), remedy.name, seed)


def copied(model: nn.Module) -> nn.Module:
    """A copy without gradients, to be trained.

    Raises:
        ValueError: there can be none, as where a weight is computed from others at each call.
    """
    try:
        found = copy.deepcopy(model)
    except Exception as error:  # whatever a stranger's module does when it is copied
        raise ValueError(f"{type(model).__name__} cannot be copied, so no remedy can be tried: {error}") from error
    for parameter in found.parameters():
        parameter.grad = None
    return found


def trained(plan: Plan, name: str, seed: int) -> Trial:
    """Train a plan's model."""
    torch.manual_seed(seed)
    model, measured = plan.model.train(), plan.measured or plan.loss
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = plan.optimizer(model)
    rates = [group.get("lr") for group in optimizer.param_groups]
    report, losses = Report(), []
    with GradientRecorder(model, every_n_steps=max(1, plan.steps // 10)) as recorder:
        recorder.optimizes(optimizer)
        for step in range(plan.steps):
            x, y = plan.batches[step % len(plan.batches)]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if rate is not None:
                    group["lr"] = rate * plan.rate(step)
            optimizer.zero_grad()
            output = model(x)
            loss = plan.loss(output, y)
            if plan.penalty is not None:
                loss = loss + plan.penalty(model)
            recorder.before_backward(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            recorder.before_step(step)
            if plan.clip is not None:
                plan.clip(parameters)
            optimizer.step()
            recorder.after_step()
            with torch.no_grad():
                losses.append(measured(output, y).detach())
            if step % _LOOK == 0 and not math.isfinite(losses[-1]):
                break
        report.add(recorder.flush())
        report.notes = recorder.notes
    values = torch.stack(losses).tolist()
    last = max(1, round(LAST * plan.steps), min(LEAST, plan.steps // 2))
    return Trial(name, plan.changes, fmean(values[-last:]), report.end, _learns(report, values, last))


def _learns(report: Report, losses: Sequence[float], last: int) -> bool:
    progress, reached = report.progress(last), fmean(losses[-last:])
    if not math.isnan(progress):
        return progress > ENOUGH
    start = fmean(losses[: max(1, min(len(losses) // 4, 10))])
    return math.isfinite(reached) and start - reached > ENOUGH * abs(start)
