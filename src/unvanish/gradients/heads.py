"""Finds in autograd's graph of a loss which outputs it compares with which targets, and the operations in between."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from unvanish.gradients import measure
from unvanish.gradients.graph import Node
from unvanish.gradients.layers import VIEWS, node_name, shape_of, signed
from unvanish.gradients.margins import label_of
from unvanish.gradients.sample import COLUMNS, Sample, columns_of

#: Largest number of nodes that are searched between the loss and a layer.
NEAR = 512
#: The kinds of losses, by the names of their nodes in autograd's graph.
LOSSES = {
    **dict.fromkeys(("NllLoss", "NllLoss2D"), "cross-entropy"),
    **dict.fromkeys(("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits"), "binary cross-entropy"),
    **dict.fromkeys(("L1Loss", "SmoothL1Loss", "HuberLoss"), "absolute error"),
    **{"MseLoss": "squared error", "SoftMarginLoss": "margin"},
}
#: The search stops at these nodes, which have weights or mix samples.
_ENDS = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "Cudnn", "Native", "Embedding", "Linear", "Compiled")
_MEAN = 1  # as torch numbers the reductions
#: The ranges of activations whose nodes in autograd's graph do not store them.
_RANGES = {
    **dict.fromkeys(("Sigmoid", "Softmax", "Hardsigmoid"), (0.0, 1.0)),
    **{"Tanh": (-1.0, 1.0), "Relu": (0.0, math.inf)},
}
#: By how much a label may be off that was subtracted from a prediction and added again.
_ROUNDED = 1e-5


@dataclass(frozen=True)
class Head:
    """A comparison of a prediction with a target, and the operations between it and a layer.

    Args:
        loss: cross-entropy, binary cross-entropy, margin, squared error or absolute error; empty if none was found.
        is_logits: Whether the loss turns the prediction into probabilities itself.
        path: The names of the nodes from the loss back to the layer's output.
        layer: The layer; empty if none was found.
        prediction: Shape of the prediction.
        output: Shape of the layer's output.
        softmax_axis: The length of the axis of each softmax between the two.
        is_over_batch: Whether a softmax or log-softmax, from torch or written out, runs over the first of several axes.
        is_mean: Whether the loss is the mean over the batch; None if that is not known.
        value: The loss of this comparison alone, as a mean over the rows; NaN if the graph does not give it.
        target: Statistics of the target, class labels as one-hot vectors; None if the graph does not give them.
        bounds: The range of the activation nearest to the loss; (-inf, inf) if it is unbounded.
    """

    loss: str
    is_logits: bool
    path: tuple[str, ...]
    layer: str
    prediction: tuple[int, ...]
    output: tuple[int, ...]
    softmax_axis: tuple[int, ...]
    is_mean: bool | None
    value: float = math.nan
    target: Sample | None = None
    is_over_batch: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer as a tuple; empty if none was found."""
        return (self.layer,) if self.layer else ()

    def is_scaled(self, activation: str) -> bool:
        """Whether an activation's output is multiplied, divided or shifted before the loss receives it."""
        after = self.path[1 : self.path.index(activation)]
        # The difference that is squared, or the loss's own softmax, is none of it.
        after = after[after.index("LogSoftmax") + 1 :] if "LogSoftmax" in after else after
        own = after[:1] in (("Sub",), ("Rsub",)) and self.path[0] not in LOSSES
        return not {"Mul", "Div", "Add", "Sub", "Rsub"}.isdisjoint(after[1:] if own else after)


def read_heads(
    root: Node, layer_of: Callable[[Node], str | None], last: tuple[Tensor, int] | None = None
) -> Iterator[tuple[Head, list[Tensor], list[int]]]:
    """Find the comparisons of a loss: each head, its numbers on the device, and the number of columns of each.

    Args:
        root: The node of the loss. After the backward pass the graph still has its structure, but no saved tensors.
        layer_of: The layer whose output a node computes, or None.
        last: The last layer's output, and the sequence number of its node; autograd does not save the two sides of a
            difference.
    """
    seen: set[Node] = set()
    both: set[str] = set()
    stack: list[tuple[Node, list[Node]]] = [(root, [])]
    while stack and len(seen) < NEAR:
        node, above = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name, layer = node_name(node), layer_of(node)
        if layer is not None or name.startswith(_ENDS):
            # Something else is made of the network's output: what is known of the loss is not all of it.
            yield Head("", False, (), layer or "", (), (), (), None), [], []
            continue
        loss = LOSSES.get(name) or _by_hand(node, above)
        if loss:
            head = _head(loss, node, above, layer_of, last)
            # -y ln p - (1 - y) ln(1 - p) has two logarithms, of which the first tells all.
            if head[0].path[0] != "Log" or head[0].layer not in both:
                yield head
            both |= {head[0].layer} if head[0].path[0] == "Log" else set()
        else:
            stack += [(before, [*above, node][-6:]) for before, _ in reversed(node.next_functions)]


def _by_hand(node: Node, above: Sequence[Node]) -> str:
    """The kind of a loss that is written in elementary operations; empty if the node does not begin one."""
    name = node_name(node)
    before = [node_name(n) for n, _ in node.next_functions if n is not None]
    is_log = name == "Log"  # which may be of anything, a variance too
    if is_log or name == "LogSoftmax":
        chosen = any(_is_product(n, surely=is_log) or node_name(n) in ("Gather", "Index") for n in above)
        return "cross-entropy" if chosen else ""
    if name == "LogSigmoid":
        return "binary cross-entropy"
    sides = [None if n is None else n.next_functions for n, _ in node.next_functions]
    if label_of(node) is not None:
        return "margin"
    is_own = _is_product(node) and sides[0] == sides[1]  # of a difference with itself
    is_square = is_own or (name == "Pow" and node._saved_exponent == 2)
    if is_square and before and set(before) <= {"Sub", "Rsub"}:
        return "" if _weighs(above) else "squared error"
    if before == ["Softmax"] and above and _is_divergence(node, above[-1]):
        return "cross-entropy"
    return "absolute error" if name == "Abs" and before == ["Sub"] else ""


def _weighs(above: Sequence[Node]) -> bool:
    """Whether a node is only a factor of another term of the loss, as (1 - p)^2 is in the focal loss."""
    factors = above[-1].next_functions if above and node_name(above[-1]) == "Mul" else ()
    return len(factors) > 1 and all(factor is not None for factor, _ in factors)


def _is_divergence(node: Node, above: Node) -> bool:
    """Whether a product with a target is subtracted from a constant, as in the Kullback-Leibler divergence."""
    is_rest = node_name(above) == "Sub" and above.next_functions[0][0] is None
    return is_rest and _is_product(node, surely=True)


def _is_product(node: Node, *, surely: bool = False) -> bool:
    """Whether two tensors are multiplied, and not a tensor with a number; if that is unknown, not ``surely``."""
    if node_name(node) != "Mul" or len(node.next_functions) < 2:
        return False
    factors = [factor for factor in (_saved(node, "_saved_self"), _saved(node, "_saved_other")) if factor is not None]
    return all(factor.dim() for factor in factors) and (bool(factors) or not surely)


def _head(
    loss: str,
    core: Node,
    above: Sequence[Node],
    layer_of: Callable[[Node], str | None],
    last: tuple[Tensor, int] | None,
) -> tuple[Head, list[Tensor], list[int]]:
    path: list[str] = []
    shapes: list[tuple[int, ...]] = []
    over: list[int] = []
    layer, node, is_over_batch, bounds = "", core, False, (-math.inf, math.inf)
    while node is not None and len(path) < 64:
        if (found := layer_of(node)) is not None:
            layer = found
            shapes.append(shape_of(node))
            break
        name = node_name(node)
        path.append(name)
        if name.startswith((*_ENDS, "Accumulate")):
            path.pop()
            shapes.append(shape_of(node))
            break
        shapes.append(shape_of(node))
        axis = _softmax_axis(node, name)
        if axis is not None and shapes[-1]:
            is_over_batch |= len(shapes[-1]) > 1 and axis in (0, -len(shapes[-1]))
            over += [shapes[-1][axis]] if name == "Softmax" else []
        bounds = _bounds(node, name) if bounds == (-math.inf, math.inf) else bounds
        node = next((before for before, _ in node.next_functions if before is not None), None)
    # What is divided by its sum is the probability of one class among several.
    is_share = "Sigmoid" in path and "Div" not in path[: path.index("Sigmoid")]
    if path[0] == "Log" and (_is_binary(above) or is_share):
        loss = "binary cross-entropy"
    prediction, target, weight = _compared(core, above)
    if target is None and path[1:2] in (["Sub"], ["Rsub"]):
        prediction, target = _sides(core.next_functions[0][0], prediction, last)
    shape = tuple(prediction.shape) if prediction is not None else shapes[0]
    if path[0] in ("Log", "LogSigmoid") and (product := next(filter(_is_product, reversed(above)), None)) is not None:
        shape = shape_of(product)  # with the target, to whose shape it may have been broadcast
    is_logits = path[0] in ("BinaryCrossEntropyWithLogits", "LogSigmoid") or "LogSoftmax" in path
    names = [node_name(node) for node in above]
    reduction = getattr(core, "_saved_reduction", None)
    is_mean = reduction == _MEAN if reduction else "Mean" in names or "DivBackward1" in names or None
    ends = (shape, shapes[-1], tuple(over), is_mean)
    head = Head(loss, is_logits, tuple(path), layer, *ends, is_over_batch=is_over_batch, bounds=bounds)
    if target is not None and path[0].startswith("NllLoss"):
        target = target.where(target != signed(core._saved_ignore_index), -1)
    parts, counts = _numbers(loss, path[0], prediction, target, weight)
    return head, parts, counts


def _softmax_axis(node: Node, name: str) -> int | None:
    """The axis of a softmax or log-softmax node, or of exp(z) / exp(z).sum(axis); None for other nodes."""
    if name in ("Softmax", "LogSoftmax"):
        return signed(node._saved_dim)
    if name != "Div" or len(node.next_functions) < 2:
        return None
    share, total = node.next_functions[0][0], node.next_functions[1][0]
    while total is not None and node_name(total) in VIEWS:
        total = total.next_functions[0][0]
    if share is None or total is None or (node_name(share), node_name(total)) != ("Exp", "Sum"):
        return None
    axes: Sequence[int] = getattr(total, "_saved_dim", ())
    is_of_exp = [node_name(before) for before, _ in total.next_functions if before is not None] == ["Exp"]
    return signed(axes[0]) if is_of_exp and len(axes) == 1 else None


def _bounds(node: Node, name: str) -> tuple[float, float]:
    """The least and the greatest value that an activation can return."""
    if name not in ("Clamp", "ClampMin", "ClampMax", "Hardtanh"):
        return _RANGES.get(name, (-math.inf, math.inf))
    suffix = "_val" if name == "Hardtanh" else ""
    low, high = _saved(node, f"_saved_min{suffix}"), _saved(node, f"_saved_max{suffix}")
    # Bounds that are a tensor differ from number to number, and may be on another device.
    return (
        float(low) if isinstance(low, int | float) else -math.inf,
        float(high) if isinstance(high, int | float) else math.inf,
    )


def _is_binary(above: Sequence[Node]) -> bool:
    """Whether the sum that contains a logarithm also contains 1 - y and 1 - p."""
    sums = (node for node in above if node_name(node) in ("Add", "Sub"))
    beside = [node_name(n) for node in sums for term, _ in node.next_functions for n in _below(term, 4)]
    return "Rsub" in beside


def _below(node: Node, depth: int) -> list[Node]:
    if node is None or not depth:
        return []
    return [node, *(below for before, _ in node.next_functions for below in _below(before, depth - 1))]


def _saved(node: Node, name: str) -> Any:
    try:
        return getattr(node, name, None)
    except RuntimeError:  # it was differentiated already
        return None


def _compared(core: Node, above: Sequence[Node]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The prediction, the target, and the weight of classes or samples; None for what autograd did not save."""
    name = node_name(core)
    if name in LOSSES:
        weights = (_saved(core, f"_saved_{of}") for of in ("weight", "pos_weight"))
        weight = next((found for found in weights if found is not None), None)
        return _saved(core, "_saved_self"), _saved(core, "_saved_target"), weight
    if (label := label_of(core)) is not None:
        return label, label, None  # what it is multiplied by is not kept
    if name in ("Log", "LogSoftmax"):
        product = next(filter(_is_product, reversed(above)), None)
        prediction = _saved(core, "_saved_self" if name == "Log" else "_saved_result")
        both = [] if product is None else [_saved(product, "_saved_self"), _saved(product, "_saved_other")]
        target = next((t for t in both if isinstance(t, Tensor) and not t.requires_grad), None)
        if prediction is None or target is None:
            return prediction, None, None
        return prediction, target.where(target.max() > 0, -target), None  # the sign may be the labels'
    return _saved(core, "_saved_self"), None, None  # a difference


def _sides(
    difference: Node, value: Tensor | None, last: tuple[Tensor, int] | None
) -> tuple[Tensor | None, Tensor | None]:
    """The prediction and the target of a difference; if the prediction is not known, the difference and None."""
    is_left = difference.next_functions[0][0] is not None
    node = difference.next_functions[0 if is_left else 1][0]
    while node is not None and node_name(node) in VIEWS:
        node = node.next_functions[0][0]
    prediction = None if node is None else _saved(node, "_saved_result")
    if prediction is None and last is not None and node is not None and node._sequence_nr() == last[1]:
        prediction = last[0]
    if prediction is None or value is None or prediction.numel() != value.numel():
        return value, None
    prediction = prediction.detach().reshape(value.shape)
    sign = -1 if is_left == (node_name(difference) == "Sub") else 1
    target = prediction + sign * value.detach()
    # What was subtracted and added again is rounded; labels are whole.
    return prediction, target.where((target - target.round()).abs() > _ROUNDED, target.round())


def _numbers(
    loss: str, core: str, prediction: Tensor | None, target: Tensor | None, weight: Tensor | None
) -> tuple[list[Tensor], list[int]]:
    """The value of the loss, and the target."""
    if prediction is None or not prediction.is_floating_point() or not prediction.numel():
        return [], []
    p = prediction.detach().to(measure.accumulator(prediction.device))
    value, known = p.new_full((), math.nan), target is not None and weight is None
    axis = 1 if p.dim() > 1 else -1
    wanted = None if target is None else target.detach()
    if core.startswith("NllLoss") and wanted is not None:
        classes = p.shape[axis]
        is_meant = (wanted >= 0) & (wanted < classes)
        labels = wanted.where(is_meant, 0).flatten()
        if known:
            losses = -p.gather(axis, wanted.where(is_meant, 0).unsqueeze(axis)).squeeze(axis)
            value = losses.where(is_meant, 0).sum() / is_meant.sum()
        flags = is_meant.flatten().to(p.dtype)
        counts = p.new_zeros(classes if classes <= COLUMNS else 1)
        counts.index_add_(0, labels if classes <= COLUMNS else labels * 0, flags)
        ends = [found.to(p.dtype) for found in (wanted.min(), wanted.max())]
        head = torch.stack([flags.sum(), *ends, flags.sum() * len(counts)])
        return [value.reshape(1), torch.cat([head, counts, counts])], [len(counts)]
    if wanted is not None and known and wanted.shape == p.shape:
        t = wanted.to(p.dtype)
        if core == "BinaryCrossEntropyWithLogits":
            value = (softplus(p) - t * p).mean()
        elif loss == "binary cross-entropy":
            # As torch has it, a logarithm is -100 at least.
            value = -(t * p.log().clamp(min=-100) + (1 - t) * (1 - p).log().clamp(min=-100)).mean()
        elif loss == "cross-entropy":
            value = -(t * (p.log() if core == "Log" else p)).sum(-1).mean()
        elif loss != "margin":
            value = ((p - t).square() if loss == "squared error" else (p - t).abs()).mean()
    elif target is None and loss in ("squared error", "absolute error"):
        value = (p.square() if loss == "squared error" else p.abs()).mean()
    if wanted is None or not wanted.numel() or wanted.is_complex():
        return [value.reshape(1)], [0]
    targets, wide = columns_of(wanted, 1 if wanted.dim() > 2 else -1)
    return [value.reshape(1), targets], [wide]
