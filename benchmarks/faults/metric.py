"""How well a run has learnt."""

import torch
from torch import Tensor, nn

from benchmarks.faults.cases import Facts


@torch.no_grad()
def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """What the model says of x in eval mode."""
    was_training = model.training
    model.eval()
    found = torch.cat([model(part) for part in torch.split(x, 512)])
    model.train(was_training)
    return found


def metric(case: Facts, p: Tensor, y: Tensor) -> float:
    """The metric that the facts name."""
    return float(_metric(case, case.get("metric") or "mse", p, y))


def _metric(case: Facts, name: str, p: Tensor, y: Tensor) -> Tensor:
    if name == "accuracy":
        threshold = case.get("threshold", 0.5)
        if y.shape[-1] > 1 and not case.get("multilabel"):
            return (p.argmax(-1) == y.argmax(-1)).float().mean()
        return torch.eq(p > threshold, y > threshold).float().mean()
    if name == "rounded_accuracy":
        return torch.eq(p.round(), y).float().mean()
    if name == "mae":
        return (p - y).abs().mean()
    error = torch.mean((p - y).square())
    return torch.div(error, torch.var(y, correction=0)) if name == "nmse" else error
