"""Positions that are computed, not learnt.

Shapes: B samples, H heads, T tokens, D features of a token, K features of a head.
"""

import torch
from torch import Tensor


def sinusoids(steps: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """sin(t / 10000^(2i/D)) in feature 2i, and its cosine in feature 2i + 1 (Vaswani et al. 2017, 3.5).

    Args:
        steps: The positions t, (T,).
        size: D, an even number.
        dtype: That of the result, (T, D).
    """
    angles = _angles(steps, size, dtype)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(dtype)  # (T, D/2, 2) -> (T, D)


def rotation(steps: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What ``rotate`` needs for positions t (T,) and K, an even ``size``: two tensors (T, K) of this dtype."""
    angles = _angles(steps, size, dtype)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1).to(dtype), torch.cat([-sin, sin], dim=-1).to(dtype)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pair of features (i, i + K/2) by t / 10000^(2i/K), for each i below K/2 (Su et al. 2021, 3.2.2).

    The product of a query and a key that are turned depends on their distance alone. (Su's pairs are neighbours: the
    same but for the order of the features, and slower.)

    Args:
        x: Queries or keys, (B, H, T, K).
        turn: What ``rotation`` returns.
    """
    cos, sin = turn
    return x * cos.to(x.dtype) + x.roll(x.shape[-1] // 2, dims=-1) * sin.to(x.dtype)


def _angles(steps: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """The angles t / 10000^(2i/size), (T, size/2), in float32 at least: bfloat16 makes 256 of 257."""
    precise = torch.promote_types(dtype, torch.float32)
    exponents = torch.arange(0, size, 2, device=steps.device, dtype=precise) / size
    return steps.unsqueeze(-1) * 10000**-exponents
