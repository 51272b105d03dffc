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
    cause="something on the way passes no gradient on: detach, argmax, rounding, a copy to numpy, or torch.no_grad.",
    remedies=(
        "softmax or Gumbel softmax in place of argmax",
        "a loss of what the network returns itself",
        "a differentiable step in place of the one that cuts",
        "no torch.no_grad around layers that are to learn",
    ),
    look=_cut,
    source="autograd's graph: there is no way from the layers to the loss",
    near="a target network, or a head that is not trained yet: it feeds nothing that the loss depends on",
)
UNKNOWN_WEIGHTS = Rule(
    name="weights that the model does not know",
    about=("layers",),
    cause="model.parameters() does not list them, so no optimizer changes them and no checkpoint keeps them.",
    remedies=(
        "layers that are made in __init__ and kept as attributes, several of them in nn.ModuleList or nn.ParameterList",
        "register_parameter",
    ),
    look=lambda rule, seen: _look("outside", rule, seen),
    source="autograd's graph: leaves that are not among the model's parameters",
    near="an input that wants a gradient itself; the weights of an adversary, which is another module's affair",
)
NOT_OPTIMIZED = Rule(
    name="parameters in no optimizer",
    about=("optimizer",),
    cause="they get a gradient and stay as they began.",
    remedies=("an optimizer that is given model.parameters()", "requires_grad_(False), if they are to stay"),
    look=lambda rule, seen: _look("optimizer", rule, seen),
    source="the optimizers' parameter groups",
    near="a network of which a part is frozen: it wants no gradient",
)
