"""Remedies that change a network's modules, whoever wrote it: each takes a plan and returns another."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from unvanish.gradients.judge.plan import Plan, UnfitError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ENDS = (nn.Softmax, nn.Sigmoid, nn.Tanh, nn.ReLU)
_BLOCKS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
#: Kinds of activation for which He's initialization is made, or near enough.
_LIKE_RELU = ("relu", "leaky_relu", "gelu", "silu", "elu", "relu6", "hardswish", "mish")


def without_end(plan: Plan) -> Plan:
    """No activation between the layer that the finding names, or the last, and the loss."""
    found = ends(plan)
    if not found:
        raise UnfitError("the activation at the output is not a module")
    for name in found:
        _put(plan, name, nn.Identity())
    return replace(plan, changes=dict.fromkeys(found, "Identity"))


def rectified(plan: Plan) -> Plan:
    """ReLU with He's initialization in place of sigmoid and tanh, but not at the output."""
    return _swapped(plan, (nn.Sigmoid, nn.Tanh), nn.ReLU, "relu")


def centred(plan: Plan) -> Plan:
    """Tanh with Xavier's initialization in place of sigmoid, but not at the output."""
    return _swapped(plan, (nn.Sigmoid,), nn.Tanh, "tanh")


def leaking(plan: Plan) -> Plan:
    """Leaky ReLU of slope 0.1 in place of ReLU, wherever one is a module."""
    names = [name for name, module in plan.model.named_modules() if isinstance(module, nn.ReLU) and name]
    if not names:
        raise UnfitError("it has no nn.ReLU")
    for name in names:
        _put(plan, name, nn.LeakyReLU(0.1))
    return replace(plan, changes=_told(names, "LeakyReLU(0.1)"))


def initialized(plan: Plan) -> Plan:
    """He's or Xavier's weights by the activation that follows, biases of zero."""
    changes: dict[str, str] = {}
    for name, module in plan.model.named_modules():
        if not isinstance(module, _LAYERS) or "weight" not in module._parameters or not module.weight.requires_grad:
            continue
        if plan.activations.get(name) in _LIKE_RELU:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        else:
            nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        changes[name] = "he_normal" if plan.activations.get(name) in _LIKE_RELU else "xavier_normal"
    if not changes:
        raise UnfitError("it has no linear or convolutional layer to initialize")
    return replace(plan, changes=plan.changes or {"weights": " and ".join(dict.fromkeys(changes.values()))})


def batch_normalized(plan: Plan) -> Plan:
    """Batch normalization between each hidden layer and its activation."""
    norms = {(nn.Linear, 2): nn.BatchNorm1d, (nn.Conv1d, 3): nn.BatchNorm1d, (nn.Conv2d, 4): nn.BatchNorm2d}

    def build(layer: nn.Module, axes: int) -> nn.Module | None:
        norm = norms.get((type(layer), axes))
        return norm(len(layer.weight)) if norm else None  # type: ignore[arg-type]

    return _normalized(plan, build)


def layer_normalized(plan: Plan) -> Plan:
    """Layer normalization between each hidden layer and its activation; over channels and pixels of an image."""

    def build(layer: nn.Module, axes: int) -> nn.Module | None:
        if isinstance(layer, nn.Linear):
            return nn.LayerNorm(layer.out_features)
        return nn.GroupNorm(1, layer.out_channels) if isinstance(layer, nn.Conv1d | nn.Conv2d) else None

    return _normalized(plan, build)


def norm_first(plan: Plan) -> Plan:
    """The norm of torch's Transformer layers in front of each branch."""
    names = [n for n, m in plan.model.named_modules() if isinstance(m, _BLOCKS) and not m.norm_first]
    if not names:
        raise UnfitError("it has no nn.TransformerEncoderLayer with norm_first=False")
    for name in names:
        plan.model.get_submodule(name).norm_first = True  # type: ignore[assignment]
    return replace(plan, changes=_told(names, "norm_first=True"))


def orthogonal(plan: Plan) -> Plan:
    """Orthogonal recurrent weights, of each gate by itself."""
    names = []
    matrices: list[Tensor]
    for name, module in plan.model.named_modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            matrices = [p for key, p in module.named_parameters(recurse=False) if key.startswith("weight_hh")]
            gates = len(matrices[0]) // int(module.hidden_size)
        elif name in plan.record.through_time and isinstance(module, nn.Linear):
            matrices, gates = [module.weight], 1
        else:
            continue
        names.append(name)
        for matrix in matrices:
            for gate in matrix.detach().chunk(gates):
                nn.init.orthogonal_(gate)
    if not names:
        raise UnfitError("it has no recurrent layer")
    return replace(plan, changes=_told(names, "orthogonal"))


def remembering(plan: Plan) -> Plan:
    """Forget gates that begin open: a bias of 1 in place of 0."""
    names = []
    for name, module in plan.model.named_modules():
        if isinstance(module, nn.LSTM | nn.LSTMCell) and module.bias:
            names.append(name)
            for key, parameter in module.named_parameters(recurse=False):
                if key.startswith("bias"):
                    forget = slice(module.hidden_size, 2 * module.hidden_size)
                    parameter.detach()[forget] = float(key.startswith("bias_ih"))
    if not names:
        raise UnfitError("it has no LSTM")
    return replace(plan, changes=_told(names, "forget_bias=1"))


def gated(plan: Plan) -> Plan:
    """GRU cells instead of tanh cells: they are called, and answer, alike."""
    names = [n for n, m in plan.model.named_modules() if isinstance(m, nn.RNN | nn.RNNCell) and n]
    if not names:
        raise UnfitError("it has no nn.RNN and no nn.RNNCell")
    for name in names:
        old = plan.model.get_submodule(name)
        new: nn.Module
        if isinstance(old, nn.RNN):
            sizes = (old.input_size, old.hidden_size, old.num_layers, old.bias, old.batch_first, old.dropout)
            new = nn.GRU(*sizes, old.bidirectional)
        else:
            assert isinstance(old, nn.RNNCell)
            new = nn.GRUCell(old.input_size, old.hidden_size, old.bias)
        _put(plan, name, new)
    return replace(plan, changes=_told(names, "GRU"))


def weighted(plan: Plan) -> list[str]:
    """The layers, in the order in which they have run."""
    return [call.name for call in plan.calls if call.has_weight]


def ends(plan: Plan) -> list[str]:
    """The activations that run between a layer that the finding names, or the last, and the next layer."""
    names = weighted(plan)
    layers = [name for name in plan.layers if name in names] or names[-1:]
    found: dict[str, None] = {}
    for layer in layers:
        index = max(i for i, call in enumerate(plan.calls) if call.name == layer)
        for call in plan.calls[index + 1 :]:
            if call.has_weight:
                break
            if isinstance(plan.model.get_submodule(call.name), _ENDS):
                found[call.name] = None
    for name in found:
        if sum(call.name == name for call in plan.calls) > 1:
            raise UnfitError(f"{name} is called within the network too")
    return [*found]


def _swapped(plan: Plan, kinds: tuple[type[nn.Module], ...], new: type[nn.Module], kind: str) -> Plan:
    last = ends(replace(plan, layers=()))
    names = [n for n, m in plan.model.named_modules() if isinstance(m, kinds) and n and n not in last]
    if not names:
        raise UnfitError(f"it has no {' and no '.join(f'nn.{k.__name__}' for k in kinds)} between layers")
    was = {k.__name__.lower() for k in kinds}
    for name in names:
        _put(plan, name, new())
    activations = {name: kind if now in was else now for name, now in plan.activations.items()}
    changes = _told(names, new.__name__)
    return initialized(replace(plan, activations=activations, changes=changes))


def _normalized(plan: Plan, build: Callable[[nn.Module, int], nn.Module | None]) -> Plan:
    if any("Norm" in type(module).__name__ for module in plan.model.modules()):
        raise UnfitError("it has normalizations already")
    count = Counter(call.name for call in plan.calls)
    outputs = {head.layer for head in plan.record.heads} | {*weighted(plan)[-1:]}
    names = []
    for name, _, axes in plan.calls:
        is_hidden = plan.activations.get(name, "identity") != "identity" and name not in outputs
        layer = plan.model.get_submodule(name)
        if is_hidden and name and count[name] == 1 and (norm := build(layer, axes)) is not None:
            names.append(name)
            _put(plan, name, nn.Sequential(layer, norm))
    if not names:
        raise UnfitError("no norm fits between its layers and their activations")
    return replace(plan, changes={"normalization": f"after {_several(names)}"})


def _put(plan: Plan, name: str, new: nn.Module) -> None:
    """A module in the place of another, wherever that is held, on its device."""
    old = plan.model.get_submodule(name)
    like = next(plan.model.parameters())
    new.to(like.device, like.dtype if like.dtype.is_floating_point else torch.float32)
    new.train(old.training)
    places = [
        (parent, key) for parent in plan.model.modules() for key, child in parent._modules.items() if child is old
    ]
    for parent, key in places:
        if parent is not new:
            parent._modules[key] = new


def _told(names: list[str], what: str) -> dict[str, str]:
    return {_several(names): what}


def _several(names: list[str]) -> str:
    """Few by name, many by number."""
    return ", ".join(names) if len(names) < 4 else f"{names[0]} and {len(names) - 1} others"
