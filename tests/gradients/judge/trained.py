"""Small networks that are really trained, what plain autograd says of each step, and the register of all cases."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from statistics import fmean, median

import torch
from torch import Tensor, nn

from unvanish.gradients import GradientRecorder, Report, Verdict
from unvanish.gradients.judge.finding import Rule

ROWS, COLUMNS, CLASSES, WIDTH = 64, 5, 3, 11
#: All that may be at fault.
ABOUT = {
    *("activation", "depth", "initialization", "learning_rate", "preprocessing", "labels", "output_layer", "loss"),
    *("optimizer", "regularization", "epochs", "layers", "zero_grad_missing", "numbers"),
}
#: The rules that have an ill case, and those that have a healthy one near them.
ILL: dict[Rule, list[str]] = defaultdict(list)
NEAR: dict[Rule, list[str]] = defaultdict(list)


def ill(rule: Rule) -> Callable:
    """Makes a test of a function that returns a verdict and the evidence that the rule's finding has to have."""

    def register(case: Callable) -> Callable:
        ILL[rule].append(case.__name__)

        @wraps(case)
        def test(*args, **options) -> None:
            verdict, evidence = case(*args, **options)
            found = [finding for finding in verdict.findings if finding.name == rule.name]
            assert evidence in [finding.evidence for finding in found], str(verdict)
            (finding,) = found
            assert str(finding).startswith(f"{rule.name}: {evidence}; ")
            assert str(finding).endswith(f"{finding.remedies[-1]}.")
            assert set(finding.about) <= ABOUT

        return test

    return register


def near(rule: Rule) -> Callable:
    """Makes a test of a function that returns a verdict on what is healthy."""

    def register(case: Callable) -> Callable:
        NEAR[rule].append(case.__name__)

        @wraps(case)
        def test(*args, **options) -> None:
            verdict = case(*args, **options)
            assert verdict.findings == (), str(verdict)

        return test

    return register


@dataclass
class Run:
    """A run, and what plain autograd says of it.

    Args:
        report: The recorder's.
        model: As it is in the end.
        losses: Of each step.
        seen: What was seen at each step, by what it is and by layer.
    """

    report: Report
    model: nn.Module
    losses: list[float] = field(default_factory=list)
    seen: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def end(self) -> Verdict:
        """The verdict on the whole of it."""
        return self.report.end

    def medians(self, what: str) -> dict[str, float]:
        """By layer, of the last steps."""
        last = self.seen[what][-self.report.window :]
        return {name: median(found[name] for found in last) for name in last[-1]}

    def first(self, what: str) -> dict[str, float]:
        """The same of the first steps."""
        first = self.seen[what][: self.report.window]
        return {name: median(found[name] for found in first) for name in first[0]}

    def loss(self, last: int = 128) -> float:
        """The mean of the last steps, of the second half of the run at most."""
        return fmean(self.losses[-min(last, max(1, len(self.losses) // 2)) :])


def trained(
    model: nn.Module,
    data: tuple[Tensor, Tensor] | Callable[[int], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    steps: int = 20,
    *,
    forget: bool = True,
    micro_batches: int = 1,
    prepare: Callable[[int], object] = lambda step: None,
) -> Run:
    """Train, with a recorder that measures everything at every step.

    Args:
        model: The network.
        data: A batch, or what makes one for each step.
        loss: Of the output and the target.
        optimizer: The optimizer.
        steps: How many.
        forget: Whether gradients are set to None.
        micro_batches: How many parts of a batch are differentiated one after the other.
        prepare: What is done between the backward pass and the step.
    """
    run = Run(Report(), model)
    layers = {n: m for n, m in model.named_modules() if isinstance(getattr(m, "weight", None), nn.Parameter)}
    layers = {name: module for name, module in layers.items() if module.weight.dim() > 1}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def see(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if output.requires_grad:
                output.retain_grad()
                outputs[name] = output

        return see

    handles = [module.register_forward_hook(keep(name)) for name, module in layers.items()]
    with GradientRecorder(model, every_n_steps=1) as recorder:
        recorder.optimizes(optimizer)
        for step in range(steps):
            x, y = data(step) if callable(data) else data
            if forget:
                optimizer.zero_grad()
            outputs.clear()
            whole = torch.zeros(())
            parts = [(x, y)] if micro_batches == 1 else zip(x.chunk(micro_batches), y.chunk(micro_batches), strict=True)
            for part, target in parts:
                value = loss(model(part), target) / micro_batches
                recorder.before_backward(value)
                value.backward()
                whole += value.detach()
            recorder.before_step(step, loss=whole, batch_size=len(x) // micro_batches)
            run.losses.append(whole.item())
            parameters = [p.grad for p in model.parameters() if p.grad is not None]
            run.seen["norm"].append({"": torch.cat([g.flatten() for g in parameters]).norm().item()})
            prepare(step)
            parameters = [p.grad for p in model.parameters() if p.grad is not None]
            run.seen["clipped"].append({"": torch.cat([g.flatten() for g in parameters]).norm().item()})
            before = {name: module.weight.detach().clone() for name, module in layers.items()}
            optimizer.step()
            recorder.after_step(optimizer)
            with torch.no_grad():
                moved = {name: module.weight - before[name] for name, module in layers.items()}
                run.seen["moved"].append({n: (m.norm() / before[n].norm()).item() for n, m in moved.items()})
                run.seen["weight"].append({name: weight.double().norm().item() for name, weight in before.items()})
                run.seen["delta"].append({n: z.grad.norm().item() for n, z in outputs.items() if z.grad is not None})
                grads = {n: m.weight.grad for n, m in layers.items() if m.weight.grad is not None}
                run.seen["descent"].append({n: -cosine(moved[n], g) for n, g in grads.items()})
                run.seen["gradient"].append({n: g.norm().item() for n, g in grads.items()})
                run.seen["dead"].append({n: (z <= 0).all(0).double().mean().item() for n, z in outputs.items()})
                full = {n: (z.tanh().abs() > 0.99).double().mean().item() for n, z in outputs.items()}
                run.seen["at tanh's bound"].append(full)
    for handle in handles:
        handle.remove()
    run.report.add(recorder.flush())
    return run


def cosine(left: Tensor, right: Tensor) -> float:
    """Of the angle between two tensors."""
    left, right = left.double().flatten(), right.double().flatten()
    return (left @ right / (left.norm() * right.norm())).item()


def mlp(
    outputs: int = CLASSES,
    hidden: int = 1,
    activation: type[nn.Module] = nn.ReLU,
    width: int = WIDTH,
    end: nn.Module | None = None,
    gain: float | None = None,
) -> nn.Sequential:
    """Linear layers 0, 2, 4, ...; ``gain`` is sigma_w sqrt(fan_in) of all of them."""
    layers: list[nn.Module] = [nn.Linear(COLUMNS, width), activation()]
    for _ in range(hidden - 1):
        layers += [nn.Linear(width, width), activation()]
    layers.append(nn.Linear(width, outputs))
    if gain is not None:
        for layer in layers[::2]:
            nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
    return nn.Sequential(*layers, *([end] if end else []))


def inputs(rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    """Of mean 0 and variance 1."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def classes(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Which of the first columns is the largest."""
    x = inputs(rows)
    return x, x[:, :CLASSES].argmax(1)


def noise(rows: int = ROWS, count: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Labels that have nothing to do with the inputs."""
    return inputs(rows), torch.randint(count, (rows,), generator=torch.Generator().manual_seed(2))


def numbers(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """A number that two columns tell, (rows, 1)."""
    x = inputs(rows)
    return x, x[:, :1] - x[:, 1:2]


def sgd(model: nn.Module, rate: float = 0.1, **options) -> torch.optim.Optimizer:
    """Plain gradient descent."""
    return torch.optim.SGD(model.parameters(), rate, **options)


def adam(model: nn.Module, rate: float = 0.01, **options) -> torch.optim.Optimizer:
    """Adam."""
    return torch.optim.Adam(model.parameters(), rate, **options)
