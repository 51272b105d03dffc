"""The order of a network's layers, and which parameters do not train, from autograd's graph."""

import gc
import inspect
from collections.abc import Hashable, Iterable, Iterator, Sequence
from types import FunctionType
from typing import Any, final

from torch import Tensor, nn
from torch.optim import Optimizer

from unvanish.gradients.graph import Trunk, common_path
from unvanish.gradients.hooks import Watch
from unvanish.gradients.layers import Layers, plain_path
from unvanish.gradients.missing import Missing, Untrained
from unvanish.gradients.passes import small_batches
from unvanish.gradients.record import Step

#: After this many full steps every optimizer is assumed to have stepped, if optimizers were not declared.
_LOOKS = 10
_GONE = "its gradient was gone before the step: an optimizer stepped in the backward pass"


@final
class Connections:
    """Learns the order of the layers, and what does not train, from the graphs of full steps.

    Args:
        model: The whole model.
        missing: Collects what cannot be measured.
    """

    def __init__(self, model: nn.Module, missing: Missing) -> None:
        self._model = model
        self._missing = missing
        self.optimizers: tuple[Optimizer, ...] = ()
        #: Whether the user declared the optimizers. If not, they are those that have begun a step and have parameters
        #: of the model.
        self.are_declared = False
        self._looks = 0
        self._distance: dict[str, float] = {}
        self._order: dict[str, None] = {}
        self._trunks: tuple[Trunk, ...] = ()
        #: For each optimizer, the ids of its parameters that require a gradient and have never had one.
        self._without: dict[Hashable, set[int]] = {}
        #: The ids of the parameters that have had a gradient in any step.
        self._reached: set[int] = set()
        self._outside: dict[int, str] = {}
        #: Ids of weights in the loss that belong to other modules; kept because the search for their owner is slow.
        self._foreign: set[int] = set()
        self._parameters: list[nn.Parameter] = []

    def order(self, known: Iterable[str]) -> list[str]:
        """The layers from the input to the loss, then those of ``known`` that have not run."""
        # The sort is stable: parallel layers stay in the order of their calls.
        run = dict.fromkeys([*self._order, *self._distance])
        placed = sorted((name for name in run if name in self._distance), key=lambda name: -self._distance[name])
        return list(dict.fromkeys([*placed, *self._order, *known]))

    def see(self, optimizer: Optimizer) -> None:
        """Note an optimizer that begins a step."""
        if self.are_declared or any(optimizer is known for known in self.optimizers):
            return
        own = {id(p) for p in self._model.parameters()}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self.optimizers += (optimizer,)

    def untrained(self) -> list[Untrained]:
        """The parameters that seem to be trained but are not."""
        trained = [p for p in self._parameters or self._model.parameters() if p.requires_grad]
        without = set().union(*self._without.values()).intersection(map(id, trained))
        taken = {id(p) for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]}
        # A parameter with neither optimizer nor gradient, such as a target network's, is frozen by intent.
        is_known = self.are_declared or self._looks > _LOOKS
        left = {id(p) for p in trained if self.optimizers and is_known and id(p) not in taken} & self._reached
        # named_parameters is slow.
        named = [(plain_path(name), id(p)) for name, p in self._model.named_parameters()] if without or left else []
        found = (
            Untrained("gradient", tuple(name for name, index in named if index in without)),
            Untrained("outside", tuple(self._outside.values())),
            Untrained("optimizer", tuple(name for name, index in named if index in left)),
        )
        return [one for one in found if one.names]

    def joins(self, earlier: Step, watch: Watch) -> bool:
        """Whether no layer has run since an earlier step, as when two optimizers share a backward pass.

        The earlier step then gets the trunks.
        """
        if watch.seen or not earlier.is_full:
            return False
        earlier.trunks, earlier.part = self._trunks, ""
        return True

    def learn(self, watch: Watch, layers: Layers, chosen: frozenset[int] | None, recorded: Step) -> None:
        """Update the order of the layers and what does not train from the graphs that the hooks have read.

        Args:
            watch: The hooks.
            layers: The model's layers.
            chosen: The ids of the optimizer's parameters; None for all.
            recorded: The step to complete with its trunks, its unreached and untrained parameters, and its part's name.
        """
        self._looks += 1
        # A pass that skips layers, as stochastic depth does, says nothing about their place.
        if watch.seen.keys() >= self._order.keys():
            self._order = watch.seen
        shown = {id(p): name for name, p in layers.parameters}
        sight = watch.sight
        distance = sight.distance | self._of_own(watch, layers, shown)
        if distance.keys() >= self._distance.keys():
            self._distance = {**distance}
        before = max(self._distance.values(), default=0) + 1.0
        for name in sorted(distance, key=lambda name: -distance[name]):
            # A layer that earlier passes skipped is placed after the layer that it follows here.
            before = self._distance.setdefault(name, before - 0.5)
        silent = {name for name, p in layers.parameters if name and p.requires_grad and p.grad is None}
        gone = silent & small_batches(watch.passes).keys()
        self._missing.add("dL/dW", (name for name, _ in layers.parameters if name in gone), _GONE)
        self._parameters = [p for _, p in layers.parameters]
        mine = [p for p in self._parameters if chosen is None or id(p) in chosen]
        self._reached |= {id(p) for p in self._parameters if p.grad is not None}
        without = {id(p) for p in mine if p.requires_grad and p.grad is None} if not gone else set()
        self._without[chosen] = self._without.get(chosen, without) & without
        silent &= {name for name, p in layers.parameters if id(p) in self._without[chosen]}
        strangers = [(index, leaf) for index, leaf in _outside(watch, layers, shown) if index not in self._foreign]
        own = _kept(self._model) | _without_a_module([leaf for _, leaf in strangers]) if strangers else set()
        self._outside = {index: str(tuple(leaf.shape)) for index, leaf in strangers if index in own}
        self._foreign |= {index for index, _ in strangers} - own
        trained = {id(p): name for name, p in layers.parameters if name and p.requires_grad}
        others = {name for index, name in trained.items() if chosen is not None and index not in chosen}
        self._trunks = tuple(sight.trunks)
        recorded.trunks = tuple(filter(None, (_without_layers(trunk, others) for trunk in self._trunks)))
        # Layers that run under no_grad are frozen by intent, unless an optimizer has their parameters.
        taken = {id(p) for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]}
        meant = {name for name, p in layers.parameters if name not in sight.blind or id(p) in taken}
        recorded.unreached = tuple(name for name in sight.cut if name in (silent - others) & meant)
        recorded.untrained = *self.untrained(), *_frozen(layers)
        if others and chosen is not None:
            names = [name for name, p in layers.parameters if name and id(p) in chosen]
            recorded.part = common_path(names) or names[0] if names else ""

    @staticmethod
    def _of_own(watch: Watch, layers: Layers, shown: dict[int, str]) -> dict[str, int]:
        """The distance to the loss of parameters that are layers by themselves, from the node that uses them."""
        found = ((shown.get(index, ""), distance) for index, (_, distance) in watch.sight.leaves.items())
        return {name: distance for name, distance in found if name and name not in layers.modules}


def _outside(watch: Watch, layers: Layers, shown: dict[int, str]) -> Iterator[tuple[int, Tensor]]:
    """The leaves of the loss's graph that look like weights but belong to no module of the model, with their ids."""
    if any(hasattr(p, "to_local") for _, p in layers.parameters):
        return  # FSDP's gathered weights are no parameters
    # A plain tensor shaped like a weight without a gradient stands in for it. Fast weights do not: through them the
    # model's weights get a gradient.
    shapes = {p.shape for _, p in layers.parameters if p.dim() > 1 and p.grad is None}
    for index, (leaf, _) in watch.sight.leaves.items():
        is_weight = isinstance(leaf, nn.Parameter) or (leaf.shape in shapes and not watch.sight.is_data(leaf))
        if index not in shown and is_weight:
            yield index, leaf


def _frozen(layers: Layers) -> list[Untrained]:
    """The weights that require no gradient, if they hold more than half of all elements; else nothing."""
    weights = [(name, p) for name, p in layers.parameters if name]
    frozen = [(name, p.numel()) for name, p in weights if not p.requires_grad]
    if 2 * sum(count for _, count in frozen) <= sum(p.numel() for _, p in weights):
        return []
    return [Untrained("frozen", tuple(name for name, _ in frozen))]


def _kept(model: nn.Module) -> set[int]:
    """The ids of tensors that a model's modules keep in lists, dicts and closures, where torch does not look."""
    found: set[int] = set()
    queue: list[Any] = [value for module in model.modules() for value in vars(module).values()]
    seen = {id(value) for value in queue}
    for value in queue:
        inside: Iterable[Any] = ()
        if isinstance(value, Tensor):
            found.add(id(value))
        elif isinstance(value, nn.Module):
            found |= {id(parameter) for parameter in value.parameters()} if value is not model else set()
        elif isinstance(value, list | tuple | set):
            inside = value
        elif isinstance(value, dict):
            inside = value.values()
        elif isinstance(value, FunctionType):
            inside = inspect.getclosurevars(value).nonlocals.values()
        queue += [one for one in inside if id(one) not in seen]
        seen |= {id(one) for one in inside}
    return found


def _without_a_module(leaves: Sequence[Tensor]) -> set[int]:
    """The ids of leaves that no module holds, such as the weights of a layer created in each forward pass.

    Weights held by another module are trained elsewhere, such as those of a discriminator that the loss contains.
    """
    tables = (by.values() for by in gc.get_referrers(*leaves) if isinstance(by, dict))
    of_modules = (table for table in tables if all(p is None or isinstance(p, nn.Parameter) for p in table))
    return {id(leaf) for leaf in leaves} - {id(p) for table in of_modules for p in table}


def _without_layers(trunk: Trunk, others: set[str]) -> Trunk | None:
    """The part of a trunk between its first and last layer that is not in ``others``; None if nothing is left."""
    if not others:
        return trunk
    left = [index for index, name in enumerate(trunk.layers) if name not in others and not name.endswith("+")]
    if not left:
        return None
    kept: Sequence[str] = [name for name in trunk.layers[left[0] : left[-1] + 1] if name not in others]
    return trunk._replace(layers=tuple(kept), heads=tuple(name for name in trunk.heads if name not in others))
