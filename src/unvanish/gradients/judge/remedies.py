"""What can be tried on any network without its source, by the names that the rules give it."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.gradients.judge import modules
from unvanish.gradients.judge.plan import Batch, Plan, UnfitError

#: Inputs and targets are standardised already where mean and standard deviation are this near to 0 and 1.
NEAR = 0.2
#: Share of the steps over which the learning rate warms up in a trial.
WARMUP = 0.25
#: A probability below this has no logarithm that float32 could learn from.
LEAST = 1e-12


@dataclass(frozen=True)
class Remedy:
    """Something to try.

    Args:
        name: A few words.
        apply: Returns the plan with it, whose model is a copy that may be changed; an UnfitError where it does not fit.
        answers: A regular expression for the rules' remedies that it carries out.
        is_general: Whether it is worth a try too where a network does not learn and no finding names it.
    """

    name: str
    apply: Callable[[Plan], Plan]
    answers: str
    is_general: bool = True

    def is_meant(self, words: str) -> bool:
        """Whether a rule's remedy speaks of it."""
        return re.match(self.answers, words) is not None


def rated(factor: float) -> Callable[[Plan], Plan]:
    """The same schedule, ``factor`` times as high."""

    def apply(plan: Plan) -> Plan:
        rate = plan.learning_rate
        if math.isnan(rate):
            raise UnfitError("its optimizer has no learning rate")
        return replace(
            plan, rate=lambda step: factor * plan.rate(step), changes={"learning rate": f"{rate * factor:.3g}"}
        )

    return apply


def warmed(plan: Plan) -> Plan:
    """A learning rate that rises in a straight line first."""
    if plan.rate(0) < plan.rate(plan.steps // 4):
        raise UnfitError("its learning rate warms up already")
    warmup = max(2, round(WARMUP * plan.steps))
    return replace(
        plan,
        rate=lambda step: plan.rate(step) * min(1.0, (step + 1) / warmup),
        changes={"learning rate": f"rises over {warmup} steps"},
    )


def clipped(plan: Plan) -> Plan:
    """Gradients whose norm is 1 at most."""
    if plan.clip is not None:
        raise UnfitError("its gradients are clipped already")
    return replace(plan, clip=lambda p: nn.utils.clip_grad_norm_(p, 1.0), changes={"norm of the gradient": "1 at most"})


def adam(plan: Plan) -> Plan:
    """Adam at its usual rate."""
    if not isinstance(plan.optimizer(plan.model), torch.optim.SGD):
        raise UnfitError("its optimizer is not SGD")
    return replace(
        plan, optimizer=lambda model: torch.optim.Adam(model.parameters(), 1e-3), changes={"optimizer": "Adam, 0.001"}
    )


def scaled_inputs(plan: Plan) -> Plan:
    """Inputs of mean 0 and standard deviation 1, by column or by channel."""
    xs = [x for x, _ in plan.batches]
    if not all(isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1 for x in xs):
        raise UnfitError("its inputs are not numeric tensors")
    mean, std = _moments(xs)
    if _is_standard(xs):
        raise UnfitError("its inputs are standardised already")
    batches: list[Batch] = [((x - mean) / std, y) for x, y in plan.batches]
    return replace(plan, batches=batches, changes={"inputs": "(x - mean) / std"})


def scaled_targets(plan: Plan) -> Plan:
    """Targets of mean 0 and standard deviation 1; the loss is told in their own units all the same."""
    ys = [y for _, y in plan.batches]
    if not plan.is_regression or not all(y.is_floating_point() and y.dim() for y in ys):
        raise UnfitError("its targets are not numbers to be predicted")
    if _is_standard(ys):
        raise UnfitError("its targets are standardised already")
    mean, std = _moments(ys)
    loss, measured = plan.loss, plan.measured or plan.loss
    return replace(
        plan,
        loss=lambda output, y: loss(output, (y - mean) / std),
        measured=lambda output, y: measured(output * std + mean, y),
        changes={"targets": "(y - mean) / std"},
    )


def squeezed(plan: Plan) -> Plan:
    """A prediction without its last axis of size 1."""
    loss = plan.loss
    return replace(
        plan, loss=lambda output, y: loss(output.squeeze(-1), y.squeeze(-1)), changes={"loss": "of squeeze(-1)"}
    )


def undone(plan: Plan) -> Plan:
    """The logits of probabilities, where the loss wants logits: its own softmax or sigmoid undoes them."""
    squashed = next((head for head in plan.record.heads if head.is_logits), None)
    kinds = [name for name in (squashed.path if squashed else ()) if name in ("Softmax", "Sigmoid")]
    if not kinds:
        raise UnfitError("its output is no softmax or sigmoid")
    if modules.ends(plan):
        raise UnfitError("it amounts to no activation at the output")
    loss, is_softmax = plan.loss, kinds[-1] == "Softmax"

    def of_probabilities(output: Any, y: Tensor) -> Tensor:
        logits = output.clamp_min(LEAST).log() if is_softmax else output.logit(1e-6)
        return loss(logits, y)

    return replace(plan, loss=of_probabilities, changes={"loss": "of log p" if is_softmax else "of log p/(1 - p)"})


def _moments(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over all axes but that of columns or channels; 1 where nothing varies."""
    first = tensors[0]
    # (B, F) and (B, T, F) have their features last, images (B, C, H, W) their channels second.
    keep = () if first.dim() == 1 else (1,) if first.dim() > 3 else (first.dim() - 1,)
    axes = [axis for axis in range(first.dim()) if axis not in keep]
    count = sum(math.prod(t.shape[axis] for axis in axes) for t in tensors)
    mean = torch.stack([t.double().sum(axes, keepdim=True) for t in tensors]).sum(0) / count
    square = torch.stack([(t.double() - mean).square().sum(axes, keepdim=True) for t in tensors]).sum(0) / count
    std = square.sqrt().where(square > 0, 1.0)
    if not keep or first.dim() == 2:
        mean, std = mean.flatten(), std.flatten()
    return mean.to(first.dtype), std.to(first.dtype)


def _is_standard(tensors: Sequence[Tensor]) -> bool:
    """By the tensors as a whole: columns that do not vary are no reason."""
    whole = torch.cat([t.detach().flatten().double() for t in tensors])
    return abs(float(whole.mean())) < NEAR and abs(float(whole.std(correction=0)) - 1) < NEAR


#: In the order in which they are tried.
REMEDIES = (
    Remedy("no activation at the output", modules.without_end, r"no \S+ (on|at) the (output|end)", is_general=False),
    Remedy("a loss on probabilities", undone, "a loss on probabilities", is_general=False),
    Remedy("squeeze(-1) of both", squeezed, r"squeeze\(-1\)", is_general=False),
    Remedy("standardised inputs", scaled_inputs, "standardised inputs|inputs divided|batch normalization of the input"),
    Remedy("standardised targets", scaled_targets, "standardised targets|the targets' mean"),
    Remedy("He or Xavier initialization", modules.initialized, "(He or Xavier|He|Xavier|torch's own) initialization$"),
    Remedy("ReLU with He initialization", modules.rectified, "ReLU with He"),
    Remedy("tanh with Xavier initialization", modules.centred, "Xavier initialization with tanh"),
    Remedy("leaky ReLU", modules.leaking, "leaky ReLU"),
    Remedy("batch normalization", modules.batch_normalized, "batch (or layer )?normalization$"),
    Remedy("layer normalization", modules.layer_normalized, "(batch or )?layer normalization$"),
    Remedy("layer normalization in front of each branch", modules.norm_first, "layer normalization in front"),
    Remedy("orthogonal recurrent weights", modules.orthogonal, "orthogonal recurrent"),
    Remedy("a forget-gate bias of 1", modules.remembering, "a forget-gate bias"),
    Remedy("GRU cells instead of tanh cells", modules.gated, "LSTM or GRU"),
    Remedy("ten times the learning rate", rated(10.0), "a higher learning rate|another learning rate"),
    Remedy(
        "a hundred times the learning rate", rated(100.0), "a higher learning rate|another learning", is_general=False
    ),
    Remedy("a tenth of the learning rate", rated(0.1), "a lower learning rate|another learning rate"),
    Remedy("a hundredth of the learning rate", rated(0.01), "a lower learning rate|another learning rate"),
    Remedy("a learning rate that warms up", warmed, "warmup|a learning rate that warms up"),
    Remedy("gradient clipping", clipped, "gradient clipping|a bound ten times"),
    Remedy("Adam instead of SGD", adam, "Adam instead"),
)
