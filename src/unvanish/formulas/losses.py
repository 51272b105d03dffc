"""A loss L says how far the prediction y_hat is from the target y: one number, the mean over the batch.

Shapes: B samples, C classes; z are logits, y_hat = sigma(z) (B,) or softmax(z) (B, C); y has the shape of z or y_hat.

Cross-entropy is computed from logits: the logarithm of a y_hat that was rounded to 0 is -inf (see the textbook forms).
"""

from torch import Tensor

from unvanish.formulas.activations import log_sigmoid, log_softmax, sigmoid, softmax


def binary_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """L = -mean(y log y_hat + (1 - y) log(1 - y_hat)), y_hat = sigma(z), 1 - y_hat = sigma(-z), in nats.

    Args:
        z: Logits, (B,).
        y: Targets in [0, 1], (B,).

    Raises:
        ValueError: If y and z differ in shape.
    """
    _check_shapes("z", z, y)
    return -(y * log_sigmoid(z) + (1 - y) * log_sigmoid(-z)).mean()


def binary_cross_entropy_derivative(z: Tensor, y: Tensor) -> Tensor:
    """dL/dz = (y_hat - y) / B, y_hat = sigma(z): sigma' cancels. Shapes and errors as ``binary_cross_entropy``."""
    _check_shapes("z", z, y)
    return (sigmoid(z) - y) / z.numel()


def categorical_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """L = -mean over the batch of sum_c y_c log y_hat_c, y_hat = softmax(z), in nats.

    Args:
        z: Logits, (B, C), or with more axes before C, all of them averaged over.
        y: Targets, one-hot or soft, shaped as z: each row sums to 1.

    Raises:
        ValueError: If y and z differ in shape.
    """
    _check_shapes("z", z, y)
    return -(y * log_softmax(z)).sum(dim=-1).mean()


def categorical_cross_entropy_derivative(z: Tensor, y: Tensor) -> Tensor:
    """dL/dz = (y_hat - y) / B, y_hat = softmax(z). Shapes and errors as ``categorical_cross_entropy``."""
    _check_shapes("z", z, y)
    return (softmax(z) - y) / z.shape[:-1].numel()


def mean_squared_error(y_hat: Tensor, y: Tensor) -> Tensor:
    """L = mean((y_hat - y)^2) over all elements, in the squared unit of y; y_hat and y of one shape.

    Raises:
        ValueError: If y and y_hat differ in shape.
    """
    _check_shapes("y_hat", y_hat, y)
    return ((y_hat - y) ** 2).mean()


def mean_squared_error_derivative(y_hat: Tensor, y: Tensor) -> Tensor:
    """dL/dy_hat = 2 (y_hat - y) / N, N the number of elements. Shapes and errors as ``mean_squared_error``."""
    _check_shapes("y_hat", y_hat, y)
    return 2 * (y_hat - y) / y_hat.numel()


def binary_cross_entropy_of_probability(y_hat: Tensor, y: Tensor) -> Tensor:
    """L = -mean(y log y_hat + (1 - y) log(1 - y_hat)), as the textbook has it; y_hat in (0, 1), y_hat and y (B,).

    Breaks where y_hat is rounded to 0 or 1: inf if it is wrong, nan (0 times -inf) if it is right.

    Raises:
        ValueError: If y and y_hat differ in shape.
    """
    _check_shapes("y_hat", y_hat, y)
    return -(y * y_hat.log() + (1 - y) * (1 - y_hat).log()).mean()


def categorical_cross_entropy_of_probability(y_hat: Tensor, y: Tensor) -> Tensor:
    """L = -mean over the batch of sum_c y_c log y_hat_c, as the textbook has it; y_hat in (0, 1], y_hat and y (B, C).

    Breaks where a y_hat_c is rounded to 0: inf if y_c > 0, nan (0 times -inf) if y_c = 0.

    Raises:
        ValueError: If y and y_hat differ in shape.
    """
    _check_shapes("y_hat", y_hat, y)
    return -(y * y_hat.log()).sum(dim=-1).mean()


def _check_shapes(name: str, prediction: Tensor, y: Tensor) -> None:
    """(B, 1) and (B,) would broadcast to (B, B)."""
    if prediction.shape != y.shape:
        raise ValueError(f"y has shape {tuple(y.shape)} and {name} {tuple(prediction.shape)}: they must be the same")
