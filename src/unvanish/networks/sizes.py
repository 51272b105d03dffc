"""Checks of inputs that the sequence families share."""


def check_sequence(shape: tuple[int, ...], vocabulary_size: int | None, padding_index: int | None) -> None:
    """Refuse an empty axis, tokens without a vocabulary or the reverse, and padding that is no token.

    Args:
        shape: (T,) of tokens; of anything else, more axes.
        vocabulary_size: The number of tokens, where there are any.
        padding_index: The padding token.

    Raises:
        ValueError: saying which does not go with which.
    """
    if min(shape, default=0) < 1:
        raise ValueError(f"input_shape is {shape}; every axis needs a length of at least 1")
    if vocabulary_size is None:
        if padding_index is not None:
            raise ValueError("padding_index is for tokens, and goes with vocabulary_size")
        if len(shape) == 1:
            raise ValueError(
                f"input_shape {shape} is that of tokens, which need vocabulary_size; series of one number a step are "
                f"({shape[0]}, 1)"
            )
    elif len(shape) != 1:
        raise ValueError(f"input_shape is {shape}; with vocabulary_size the input is tokens, (T,)")
    elif padding_index is not None and not 0 <= padding_index < vocabulary_size:
        raise ValueError(f"padding_index is {padding_index}; the vocabulary's tokens are 0 to {vocabulary_size - 1}")
