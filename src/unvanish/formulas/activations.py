"""Activations bend what a layer computes: without them, layers after each other are one linear layer.

Shapes: z of any shape; for softmax (..., C), C classes in the last axis.

Where the primer's form would overflow or cancel it is rearranged: a saturated unit has its true, small derivative.
"""

import torch
from torch import Tensor


def sigmoid(z: Tensor) -> Tensor:
    """sigma(z) = 1 / (1 + e^-z); where e^-z overflows to inf, 1 / inf = 0 is its limit."""
    return 1 / (1 + torch.exp(-z))


def sigmoid_derivative(z: Tensor) -> Tensor:
    """sigma'(z) = sigma(z) (1 - sigma(z)), at most 1/4; 1 - sigma(z) is sigma(-z), which does not cancel."""
    return sigmoid(z) * sigmoid(-z)


def log_sigmoid(z: Tensor) -> Tensor:
    """log(sigma(z)) = -log(1 + e^-z): finite where sigma(z) itself is rounded to 0."""
    return -torch.logaddexp(torch.zeros_like(z), -z)


def tanh(z: Tensor) -> Tensor:
    """(e^z - e^-z) / (e^z + e^-z): to avoid inf / inf, (1 - e^-2|z|) / (1 + e^-2|z|) with the sign of z."""
    sign = torch.where(z < 0, -1, 1)
    e = torch.expm1(-2 * sign * z)  # e^-2|z| - 1: a small z keeps its digits
    return sign * -e / (2 + e)


def tanh_derivative(z: Tensor) -> Tensor:
    """tanh'(z) = 1 - tanh(z)^2, at most 1; it is 4 sigma'(2z), which does not cancel."""
    return 4 * sigmoid_derivative(2 * z)


def relu(z: Tensor) -> Tensor:
    """ReLU(z) = max(0, z)."""
    return torch.where(z <= 0, 0, z)


def relu_derivative(z: Tensor) -> Tensor:
    """ReLU'(z) = 1 where z > 0, else 0; at the kink z = 0 it is 0, as in torch."""
    return (z > 0).to(z.dtype)


def leaky_relu(z: Tensor, slope: float = 0.01) -> Tensor:
    """LeakyReLU(z) = z where z > 0, else slope z."""
    return torch.where(z > 0, z, slope * z)


def leaky_relu_derivative(z: Tensor, slope: float = 0.01) -> Tensor:
    """LeakyReLU'(z) = 1 where z > 0, else slope; at the kink z = 0 it is slope, as in torch."""
    return torch.where(z > 0, torch.ones_like(z), slope)


def softmax(z: Tensor) -> Tensor:
    """s_i = e^z_i / sum_j e^z_j over the last axis; subtracting max(z) changes no s_i and lets no exponent overflow.

    For outputs only (and attention's weights, which are shares as well). Its outputs sum to 1: hidden units would
    compete, each grow only at the others' cost. And its Jacobian diag(s) - s s^T has the vector of ones as an
    eigenvector of eigenvalue 0, so that a gradient that is equal for all units is lost, and entries of at most 1/4 in
    size, so that the rest shrinks.

    Args:
        z: Logits, (..., C).
    """
    e = torch.exp(z - z.amax(dim=-1, keepdim=True))
    return e / e.sum(dim=-1, keepdim=True)


def log_softmax(z: Tensor) -> Tensor:
    """log(s_i) = z_i - log sum_j e^z_j over the last axis of z (..., C): finite where s_i itself is rounded to 0."""
    shifted = z - z.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def softmax_jacobian(z: Tensor) -> Tensor:
    """ds_i/dz_j = s_i (1 - s_i) where i = j, else -s_i s_j: diag(s) - s s^T, (..., C, C) for z (..., C).

    It is symmetric. Its product with the vector of ones is 0, since a number added to all z changes nothing; its rank
    is below C. No entry exceeds 1/4 in size, since s_i + s_j <= 1.
    """
    s = softmax(z)
    return torch.diag_embed(s) - s.unsqueeze(-1) * s.unsqueeze(-2)


def softmax_backward(delta: Tensor, z: Tensor) -> Tensor:
    """dL/dz = (diag(s) - s s^T) delta = s * (delta - s . delta), without the C x C matrix.

    Args:
        delta: dL/ds, (..., C).
        z: Logits, (..., C).

    Raises:
        ValueError: If delta and z differ in shape.
    """
    if delta.shape != z.shape:
        raise ValueError(f"delta has shape {tuple(delta.shape)} and z {tuple(z.shape)}: delta must have the shape of z")
    s = softmax(z)
    return s * (delta - (s * delta).sum(dim=-1, keepdim=True))
