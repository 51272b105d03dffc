"""A neuron weighs its inputs, adds a bias and bends the sum; a layer is many neurons, a network many layers.

Shapes: B samples; n inputs of a neuron; n_in inputs and n_out neurons of a layer: a (B, n_in), W (n_out, n_in) and
b (n_out,). A batch is rows, so that a layer is a W^T + b: each row is the primer's W a + b.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from unvanish.formulas._shapes import expect

Activation = Callable[[Tensor], Tensor]


def neuron(x: Tensor, w: Tensor, b: Tensor, sigma: Activation) -> Tensor:
    """sigma(z), z = sum_i w_i x_i + b.

    Args:
        x: Inputs, (..., n).
        w: Weights, (n,).
        b: Bias, ().
        sigma: The activation.

    Returns:
        a, (...).

    Raises:
        ValueError: If w or b has another shape.
    """
    expect("w", w, (x.shape[-1],))
    expect("b", b, ())
    return sigma(x @ w + b)


def layer(a: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """z[l] = W[l] a[l-1] + b[l], for each row of a: (B, n_in) -> (B, n_out).

    Raises:
        ValueError: If W is not (n_out, n_in), or b not (n_out,).
    """
    expect("b", b, W.shape[:1])
    expect("W", W, (*b.shape, a.shape[-1]))
    return a @ W.T + b


def layer_backward(delta: Tensor, a: Tensor, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dL/da[l-1] = W[l]^T delta[l]; dL/dW[l] = delta[l] a[l-1]^T and dL/db[l] = delta[l], summed over the batch.

    Args:
        delta: dL/dz[l], (B, n_out).
        a: a[l-1], (B, n_in).
        W: W[l], (n_out, n_in).

    Returns:
        dL/da (B, n_in), dL/dW (n_out, n_in) and dL/db (n_out,).

    Raises:
        ValueError: If delta or a does not fit the others.
    """
    expect("delta", delta, (len(a), len(W)))
    expect("a", a, (len(delta), W.shape[-1]))
    return delta @ W, delta.T @ a, delta.sum(dim=0)


def forward(
    x: Tensor, Ws: Sequence[Tensor], bs: Sequence[Tensor], sigmas: Sequence[Activation]
) -> tuple[list[Tensor], list[Tensor]]:
    """a[0] = x; z[l] = W[l] a[l-1] + b[l], a[l] = sigma[l](z[l]) for l = 1 to L; y_hat = a[L].

    Args:
        x: Inputs, (B, n_in of the first layer).
        Ws: W[1] to W[L].
        bs: b[1] to b[L].
        sigmas: The activation of each layer, sigma[1] to sigma[L].

    Returns:
        z[1] to z[L], and a[0] to a[L]: one more, x first and y_hat last.

    Raises:
        ValueError: If the lists differ in length, or a layer does not fit (see ``layer``).
    """
    if not len(Ws) == len(bs) == len(sigmas):
        raise ValueError(
            f"Ws, bs and sigmas have {len(Ws)}, {len(bs)} and {len(sigmas)} items: each layer needs one of each"
        )
    zs, activations = [], [x]
    for W, b, sigma in zip(Ws, bs, sigmas, strict=True):
        zs.append(layer(activations[-1], W, b))
        activations.append(sigma(zs[-1]))
    return zs, activations
