"""What the formulas refuse in the same words."""

from torch import Tensor


def expect(name: str, found: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse another shape by ValueError: torch would broadcast some wrong ones to a wrong answer."""
    if found.shape != shape:
        raise ValueError(f"{name} has shape {tuple(found.shape)}: must be {tuple(shape)} to fit the other arguments")
