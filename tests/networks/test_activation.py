import re

import pytest
import torch

from unvanish.activations import build_activation

FORMULAS = {
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "tanh": lambda z: (z.exp() - (-z).exp()) / (z.exp() + (-z).exp()),
    "relu": lambda z: z * (z > 0),
    "leaky_relu": lambda z: torch.where(z > 0, z, 0.01 * z),
    "gelu": lambda z: z * (1 + torch.erf(z / 2**0.5)) / 2,
    "selu": lambda z: 1.0507009873554805 * torch.where(z > 0, z, 1.6732632423543772 * (z.exp() - 1)),
    "silu": lambda z: z / (1 + (-z).exp()),
    "identity": lambda z: z,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_its_formula(name):
    z = torch.linspace(-5, 5, 23, dtype=torch.float64)
    torch.testing.assert_close(build_activation(name)(z), FORMULAS[name](z))


def test_softmax_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"^softmax is for outputs only: in a hidden layer it makes units compete"):
        build_activation("softmax")


def test_an_unknown_activation_is_refused_with_the_nearest_and_all_there_are():
    message = f"unknown activation 'reul'; did you mean 'relu'? (known: {', '.join(FORMULAS)})"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_activation("reul")
