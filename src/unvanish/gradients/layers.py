"""Finds the layers of a network and the activation after each."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import UninitializedParameter

#: Kinds of activations. Saturation is measured for sigmoid and tanh, dead units for ReLU, mean and spread for all.
ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.ReLU6: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.GELU: "gelu",
    nn.SELU: "selu",
    nn.SiLU: "silu",
    nn.ELU: "elu",
    nn.CELU: "elu",
    nn.PReLU: "prelu",
    nn.Softplus: "softplus",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
}
#: The same for activations called as functions, by the name of their node in autograd's graph.
FUNCTIONS = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Elu": "elu",
    "Softplus": "softplus",
    "Mish": "mish",
    "Hardswish": "hardswish",
    "Hardtanh": "hardtanh",
    "Hardsigmoid": "hardsigmoid",
    "Exp": "exp",
}
#: Nodes of the graph that change only the shape; the first ones keep the order of the elements.
_FLAT_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze")
VIEWS = (*_FLAT_VIEWS, "Transpose", "Permute", "T")
#: Activations that are computed again if their own output is out of reach.
_APPLY: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
#: Attributes under which ``torch.compile`` and activation checkpointing keep the module that they wrap.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")
#: Number of graph nodes that are searched between two layers.
_NEAR = 64


def node_name(node: Any) -> str:
    """The name of the operation of a node in autograd's graph: ``Relu`` for ReluBackward0."""
    return str(node.name()).partition("Backward")[0]


def shape_of(node: Any) -> tuple[int, ...]:
    """The shape of a node's result; () if the node does not know it."""
    found = getattr(node, "_input_metadata", None)
    return tuple(found[0].shape) if found else ()


def signed(number: int) -> int:
    """A number that a node has saved: negative ones are stored as unsigned 64-bit integers."""
    return number if number < 2**63 else number - 2**64


def activation_path(tensor: Any, origin: Any) -> list[Any] | None:
    """The nodes from ``origin``, exclusive, to a tensor, in this order; None if ``origin`` is not found nearby."""
    if not isinstance(tensor, Tensor) or tensor.grad_fn is None:
        return None
    came_from: dict[Any, Any] = {tensor.grad_fn: None}
    for node in (queue := [tensor.grad_fn]):
        if node is origin:
            path, step = [], came_from[node]
            while step is not None:
                path.append(step)
                step = came_from[step]
            return path
        for before, _ in node.next_functions:
            if before is not None and before not in came_from and len(came_from) < _NEAR:
                came_from[before] = node
                queue.append(before)
    return None


def find_activation(z: Tensor, origin: Any, next_input: Any) -> tuple[str, Tensor | None]:
    """The kind of an activation function after a layer, and its value, which is None if it is no longer available.

    Args:
        z: The layer's output, perhaps changed in place since.
        origin: The node of autograd's graph that produced it.
        next_input: The input of the next layer.
    """
    tensor, path = next_input, activation_path(next_input, origin)
    if path is None:
        tensor, path = z, activation_path(z, origin) or []
    index, kind = next(((i, kind) for i, node in enumerate(path) if (kind := FUNCTIONS.get(node_name(node)))), (0, ""))
    if not kind:
        return "identity", z.detach() if z.grad_fn is origin else None
    if z.grad_fn is path[index]:
        return kind, z.detach()
    if all(node_name(node) in VIEWS for node in path[index + 1 :]):
        keeps_order = all(node_name(node) in _FLAT_VIEWS for node in path[index + 1 :])
        return kind, tensor.detach().reshape(
            z.shape
        ) if keeps_order and tensor.numel() == z.numel() else tensor.detach()
    if kind in _APPLY and z.grad_fn is origin and all(node_name(node) in _FLAT_VIEWS for node in path[:index]):
        return kind, _APPLY[kind](z.detach())
    return kind, None


class Layers(NamedTuple):
    """The layers of a model.

    Args:
        modules: The modules that own a weight, a parameter with two or more axes, by name.
        parameters: All parameters, each with the name of its layer, which is empty for parameters with one axis. A
            parameter of a module that contains other layers is a layer by itself, since that module's output does not
            depend on it alone. A parameter that several layers share belongs to the first one.
    """

    modules: dict[str, nn.Module]
    parameters: list[tuple[str, nn.Parameter]]


def find_layers(model: nn.Module) -> Layers:
    """Find the current layers of a model."""
    owned: dict[str, tuple[nn.Module, dict[str, nn.Parameter]]] = {}
    others: dict[nn.Parameter, str] = {}
    named: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        named[path] = module
        for key, parameter in module.named_parameters(recurse=False):
            if isinstance(parameter, UninitializedParameter):
                continue
            if parameter.dim() < 2 or not parameter.numel():
                others.setdefault(parameter, "")
                continue
            # Parametrizations, such as weight normalization, keep a layer's weight in a submodule.
            owner = path.partition("parametrizations.")[0].rstrip(".")
            above = owner.rpartition(".")[0]
            if above in owned and isinstance(owned[above][0], nn.MultiheadAttention):
                owner = above  # it uses the weight of out_proj without calling that module
            owned.setdefault(owner, (named[owner], {}))[1][key] = parameter
    containers = {above for owner in owned if owner for above in accumulate(("", *owner.split(".")[:-1]), _dotted)}
    modules: dict[str, nn.Module] = {}
    weights: dict[nn.Parameter, str] = {}
    for owner, (module, parameters) in owned.items():
        is_container = owner in containers
        path = plain_path(owner)
        if not is_container:
            modules[path or type(model).__name__] = module
        for key, parameter in parameters.items():
            name = ".".join(filter(None, (path, key))) if is_container else path or type(model).__name__
            weights.setdefault(parameter, name)
    return Layers(modules, [(name, parameter) for parameter, name in (weights | others).items()])


def plain_path(path: str) -> str:
    """The path of a module or parameter without wrappers."""
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def units_of(weight: nn.Parameter, module: nn.Module) -> int:
    """The number of units of a layer: channels of a convolution, outputs of a linear layer."""
    is_transposed = getattr(module, "transposed", False)
    return weight.shape[1] * int(getattr(module, "groups", 1)) if is_transposed else weight.shape[0]


def units_by_layer(layers: Layers) -> dict[str, int]:
    """The number of units of each layer; 0 for a parameter that is a layer by itself."""
    names = dict.fromkeys([*layers.modules, *(name for name, _ in layers.parameters if name)])
    first = {name: parameter for name, parameter in reversed(layers.parameters) if name in layers.modules}
    return {name: units_of(first[name], layers.modules[name]) if name in first else 0 for name in names}


def unit_axis(module: nn.Module) -> int:
    """The axis of a layer's output that its units lie along: 1 for channels, -1 for features."""
    return 1 if hasattr(module, "kernel_size") else -1


def short_names(layers: Iterable[str]) -> dict[str, str]:
    """Names for charts, without a common prefix and without a last component that distinguishes nothing."""
    paths = {layer: layer.split(".") for layer in layers}
    while len(paths) > 1 and len({path[0] for path in paths.values()}) == 1:
        paths = {layer: path[1:] for layer, path in paths.items()}
    parents = [".".join(path[:-1]) for path in paths.values()]
    times = Counter(parents)
    whole = {".".join(path) for path in paths.values()}
    short = {}
    for (layer, path), parent in zip(paths.items(), parents, strict=True):
        is_unique = bool(parent) and times[parent] == 1 and parent not in whole
        is_digit = parent.rpartition(".")[2].isdigit()
        short[layer] = parent if is_unique and is_digit else ".".join(path)
    return short


def first_tensor(output: Any) -> Tensor | None:
    """A layer's output tensor: the output itself, or the first one in a nested tuple, mapping or dataclass."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) or is_dataclass(output):
        output = _values(output)
    if isinstance(output, list | tuple):
        # No walrus: torch 2.11 cannot trace one in a generator.
        return next((tensor for tensor in map(first_tensor, output) if tensor is not None), None)
    return None


def all_tensors(output: Any) -> list[Tensor]:
    """All tensors in a model's output or input, however nested."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping) or is_dataclass(output):
        output = _values(output)
    return [t for part in output for t in all_tensors(part)] if isinstance(output, list | tuple) else []


def _values(output: Any) -> list[Any]:
    # By field, because a dataclass with slots has no vars().
    return list(output.values()) if isinstance(output, Mapping) else [getattr(output, f.name) for f in fields(output)]


def unwrapped(model: nn.Module) -> nn.Module | None:
    """The model that ``torch.compile`` or DDP wraps."""
    inner: nn.Module | None = getattr(model, "_orig_mod", None)
    return model.module if isinstance(model, DistributedDataParallel | nn.DataParallel) else inner


def is_compiled(model: nn.Module) -> bool:
    """Whether any part of the model is compiled."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def of_each_rank(model: nn.Module) -> set[int]:
    """The ids of the parameters that DDP does not synchronize, so that ranks differ by design.

    These are the parameters that DDP is told to ignore, such as shards of an embedding, and, if DDP wraps only parts
    of the model, those of the other parts.
    """
    own: set[int] = set()
    for module in model.modules():
        names = {*getattr(module, "_ddp_params_and_buffers_to_ignore", ())}
        own |= {id(p) for name, p in module.named_parameters() if name in names} if names else set()
    parts = [module for module in model.modules() if isinstance(module, DistributedDataParallel)]
    copied = {id(parameter) for part in parts for parameter in part.parameters()}
    return own | ({id(parameter) for parameter in model.parameters()} - copied if parts else set())
