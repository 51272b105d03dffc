"""Initial weights as Keras draws them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: The standard deviation of a standard normal that is drawn anew beyond 2.
TRUNCATED_STD = 0.87962566103423978
_SCALED = {"glorot": (1.0, "fan_avg"), "he": (2.0, "fan_in"), "lecun": (1.0, "fan_in")}


@torch.no_grad()
def initialize(weight: Tensor, spec: str | dict[str, Any]) -> None:
    """Fill a weight (out, in, *kernel) or a bias (out,) as a Keras initializer of that name does."""
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = given.pop("name")
    root, _, kind = name.partition("_")
    if name == "torch_default":
        return
    if root in _SCALED and kind in ("uniform", "normal"):
        scale, mode = _SCALED[root]
        _variance_scaling(weight, scale, mode, "truncated_normal" if kind == "normal" else kind)
    elif name == "variance_scaling":
        defaults = {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"}
        _variance_scaling(weight, **(defaults | given))
    elif name in _PLAIN:
        _PLAIN[name](weight, **given)
    else:
        raise ValueError(f"no initializer is called {name}")


def fans(shape: torch.Size) -> tuple[float, float]:
    """In and out; of a vector, the root of its size for both, as in Keras before TensorFlow 2."""
    if len(shape) < 2:
        return (math.sqrt(math.prod(shape)),) * 2
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _variance_scaling(weight: Tensor, scale: float, mode: str, distribution: str) -> None:
    fan_in, fan_out = fans(weight.shape)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    variance = scale / max(1.0, fan)
    if distribution == "uniform":
        _uniform(weight, -math.sqrt(3 * variance), math.sqrt(3 * variance))
    elif distribution == "untruncated_normal":
        nn.init.normal_(weight, 0.0, math.sqrt(variance))
    else:
        _truncated(weight, 0.0, math.sqrt(variance) / TRUNCATED_STD)


def _uniform(weight: Tensor, min: float = -0.05, max: float = 0.05) -> None:  # noqa: A002
    nn.init.uniform_(weight, min, max)


def _normal(weight: Tensor, mean: float = 0.0, std: float = 0.05) -> None:
    nn.init.normal_(weight, mean, std)


def _truncated(weight: Tensor, mean: float = 0.0, std: float = 0.05) -> None:
    nn.init.trunc_normal_(weight, mean, std, mean - 2 * std, mean + 2 * std)


def _constant(weight: Tensor, value: float = 0.0) -> None:
    nn.init.constant_(weight, value)


def _orthogonal(weight: Tensor, gain: float = 1.0) -> None:
    nn.init.orthogonal_(weight, gain)


def _identity(weight: Tensor, gain: float = 1.0) -> None:
    nn.init.eye_(weight).mul_(gain)


_PLAIN: dict[str, Callable[..., None]] = {
    "zeros": lambda weight: _constant(weight, 0.0),
    "ones": lambda weight: _constant(weight, 1.0),
    "constant": _constant,
    "random_uniform": _uniform,
    "random_normal": _normal,
    "truncated_normal": _truncated,
    "orthogonal": _orthogonal,
    "identity": _identity,
}
