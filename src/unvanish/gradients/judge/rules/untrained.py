"""Weights that the loss depends on, and that nothing will ever change."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.missing import listed


def _look(kind: str, rule: Rule, seen: Seen) -> Iterator[Finding]:
    for found in seen.latest.untrained if seen.latest else ():
        if found.kind == kind:
            yield rule.found(str(found), found.names)


def _cut(rule: Rule, seen: Seen) -> Iterator[Finding]:
    unreached = dict.fromkeys(name for record in seen.records[-1:] for name in record.unreached)
    if unreached:
        yield rule.found(f"no gradient comes to {listed(unreached)}", unreached)


DISCONNECTED = Rule(
    name="disconnected",
    about=("layers",),
    cause="something between these layers and the loss blocks the gradient: detach, argmax, rounding, a copy to "
    "numpy, or torch.no_grad.",
    remedies=(
        "softmax or Gumbel-softmax instead of argmax",
        "a loss computed from the network's own output",
        "a differentiable operation instead of the one that blocks",
        "no torch.no_grad around layers that should learn",
    ),
    look=_cut,
    source="autograd's graph: no path leads from the layers to the loss",
    near="a target network, or a head that is not trained yet: the loss does not depend on it",
)
UNKNOWN_WEIGHTS = Rule(
    name="weights that the model does not know",
    about=("layers",),
    cause="model.parameters() does not list them, so no optimizer changes them and no checkpoint keeps them.",
    remedies=(
        "layers created in __init__ and kept as attributes, or in an nn.ModuleList or nn.ParameterList",
        "register_parameter",
    ),
    look=lambda rule, seen: _look("outside", rule, seen),
    source="autograd's graph: leaves that are not among the model's parameters",
    near="an input that requires a gradient; the weights of an adversary, which belong to another module",
)
NOT_OPTIMIZED = Rule(
    name="parameters in no optimizer",
    about=("optimizer",),
    cause="they get a gradient, and no optimizer ever updates them.",
    remedies=(
        "an optimizer created from model.parameters()",
        "requires_grad_(False), if they are meant to stay frozen",
    ),
    look=lambda rule, seen: _look("optimizer", rule, seen),
    source="the optimizers' parameter groups",
    near="a network with frozen layers: they require no gradient",
)
