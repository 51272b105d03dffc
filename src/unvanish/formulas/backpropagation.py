"""The chain rule, from the loss back to every weight; and with it a training loop that needs no autograd.

Shapes: B of N samples; L layers of widths n[0] to n[L]. W[l] (n[l], n[l-1]), b[l] (n[l],); z[l], a[l] and delta[l]
(B, n[l]); a[0] = x. Lists hold layers 1 to L, activations 0 to L. The last layer's z are logits, without an activation.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from torch import Tensor

from unvanish.formulas.neuron import Activation, forward

State = TypeVar("State")


def output_delta(dL_dy_hat: Tensor, z: Tensor, sigma_derivative: Activation) -> Tensor:
    """delta[L] = dL/dy_hat * sigma'(z[L]), for an elementwise y_hat = sigma(z[L]) (Nielsen 2015, BP1).

    Not for softmax or sigmoid with its cross-entropy: fused, each gives delta[L] = (y_hat - y) / B, in ``losses``
    ``categorical_cross_entropy_derivative`` and ``binary_cross_entropy_derivative``.

    Raises:
        ValueError: If dL/dy_hat and z differ in shape.
    """
    _check_shapes("dL/dy_hat", dL_dy_hat, z)
    return dL_dy_hat * sigma_derivative(z)


def backward(
    delta: Tensor,
    Ws: Sequence[Tensor],
    zs: Sequence[Tensor],
    activations: Sequence[Tensor],
    sigma_derivatives: Sequence[Activation],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """delta[l] = W[l+1]^T delta[l+1] * sigma'(z[l]) (Rumelhart et al. 1986; Nielsen 2015, BP2 to BP4).

    dL/dW[l] = delta[l] a[l-1]^T and dL/db[l] = delta[l], summed over the batch.

    Args:
        delta: delta[L] = dL/dz[L], (B, n[L]): a loss's derivative on logits, or ``output_delta``.
        Ws: W[1] to W[L].
        zs: z[1] to z[L], as of ``forward``.
        activations: a[0] to a[L], as of ``forward``.
        sigma_derivatives: sigma' of the hidden layers, 1 to L - 1; that of layer L is in delta.

    Returns:
        delta, dL/dW and dL/db, each for layers 1 to L.

    Raises:
        ValueError: If the lists' lengths do not fit each other, or delta and z[L] differ in shape.
    """
    if not len(Ws) == len(zs) == len(activations) - 1 == len(sigma_derivatives) + 1:
        found = f"{len(Ws)}, {len(zs)}, {len(activations)} and {len(sigma_derivatives)}"
        raise ValueError(f"Ws, zs, activations, sigma_derivatives have {found} entries: must be L, L, L + 1 and L - 1")
    _check_shapes("delta", delta, zs[-1])
    deltas = [delta]
    for i in reversed(range(len(Ws) - 1)):
        deltas.insert(0, deltas[0] @ Ws[i + 1] * sigma_derivatives[i](zs[i]))
    dWs = [delta.T @ a for delta, a in zip(deltas, activations[:-1], strict=True)]
    dbs = [delta.sum(dim=0) for delta in deltas]
    return deltas, dWs, dbs


def train(
    x: Tensor,
    y: Tensor,
    Ws: Sequence[Tensor],
    bs: Sequence[Tensor],
    sigma: Activation,
    sigma_derivative: Activation,
    loss_derivative: Callable[[Tensor, Tensor], Tensor],
    batch_indices: Iterable[Tensor],
    update: Callable[[Tensor, Tensor, State], tuple[Tensor, State]],
    states: Sequence[State],
) -> tuple[list[Tensor], list[Tensor], list[State]]:
    """Train an MLP without autograd: for each batch forward, backward, update.

    Args:
        x: All inputs, (N, n[0]).
        y: All targets, (N, n[L]): one-hot for classes.
        Ws: W[1] to W[L].
        bs: b[1] to b[L].
        sigma: The activation of each hidden layer; the last layer has none.
        sigma_derivative: Its derivative.
        loss_derivative: dL/dz[L] from z[L] and y, of ``losses``.
        batch_indices: The indices (B,) of each batch: an epoch of ``batches``, many, or a single batch.
        update: New theta and state from theta, its gradient and its state: ``partial(adam, eta=0.001)``, or for SGD,
            which has no state, ``lambda theta, g, state: (sgd(theta, g, eta=0.1), state)``.
        states: The state of each theta of [*Ws, *bs]: at first ``adam_start(theta)``, zeros, or None for SGD.

    Returns:
        Ws, bs and states, to go on from.
    """
    layers, thetas = len(Ws), [*Ws, *bs]
    sigmas, sigma_derivatives = [sigma] * (layers - 1) + [_identity], [sigma_derivative] * (layers - 1)
    for batch in batch_indices:
        Ws, bs = thetas[:layers], thetas[layers:]
        zs, activations = forward(x[batch], Ws, bs, sigmas)
        delta = loss_derivative(zs[-1], y[batch])
        _, dWs, dbs = backward(delta, Ws, zs, activations, sigma_derivatives)
        updates = [update(*now) for now in zip(thetas, dWs + dbs, states, strict=True)]
        thetas, states = [theta for theta, _ in updates], [state for _, state in updates]
    return thetas[:layers], thetas[layers:], list(states)


def _identity(z: Tensor) -> Tensor:
    return z


def _check_shapes(name: str, gradient: Tensor, z: Tensor) -> None:
    if gradient.shape != z.shape:
        raise ValueError(f"{name} has shape {tuple(gradient.shape)} and z {tuple(z.shape)}: they must be the same")
