"""Residual blocks: the shortcut adds 1 to each derivative, so that a product of small derivatives does not vanish.

Shapes: x and F(x) are of one shape; J, the Jacobian dF/dx, is (..., n, n); L blocks.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def residual(x: Tensor, F: Callable[[Tensor], Tensor]) -> Tensor:
    """F(x) + x (He et al. 2016, Deep Residual Learning, eq. 1).

    Raises:
        ValueError: F(x) has not the shape of x.
    """
    return _add(x, F(x), "F")


def residual_derivative(F_derivative: Tensor) -> Tensor:
    """d(x + F(x))/dx = 1 + F'(x), for each x on its own."""
    return 1 + F_derivative


def residual_jacobian(J: Tensor) -> Tensor:
    """d(x + F(x))/dx = I + J.

    Raises:
        ValueError: J is not (..., n, n).
    """
    if J.dim() < 2 or J.shape[-1] != J.shape[-2]:
        raise ValueError(f"J has shape {tuple(J.shape)}: must be (..., n, n), since F(x) has the shape of x")
    return torch.eye(J.shape[-1], dtype=J.dtype, device=J.device) + J


def residual_backward(delta: Tensor, dF: Callable[[Tensor], Tensor]) -> Tensor:
    """dL/dx = delta + dF(delta): the shortcut passes delta on as it is (He et al. 2016, Identity Mappings, eq. 5).

    Args:
        delta: dL/d(x + F(x)), of the shape of x.
        dF: The backward pass of F at x: delta -> J^T delta.

    Raises:
        ValueError: dF(delta) has not the shape of delta.
    """
    return _add(delta, dF(delta), "dF")


def plain_product(derivatives: Tensor) -> Tensor:
    """F'(x_0) F'(x_1) ... F'(x_(L-1)): dx_L/dx_0 of x_l = F(x_(l-1)). (L, ...) to (...)."""
    return derivatives.prod(0)


def residual_product(derivatives: Tensor) -> Tensor:
    """(1 + F'(x_0)) ... (1 + F'(x_(L-1))): dx_L/dx_0 of x_l = x_(l-1) + F(x_(l-1)). (L, ...) to (...).

    At least 1 where no F' is negative.
    """
    return plain_product(residual_derivative(derivatives))


def _add(x: Tensor, change: Tensor, name: str) -> Tensor:
    if change.shape != x.shape:
        raise ValueError(f"{name} makes {tuple(change.shape)} of {tuple(x.shape)}; a shortcut adds equal shapes only")
    return x + change
