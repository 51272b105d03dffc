"""What all data modules share: the settings of loading, the description of the data, and the tensors of the splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from unvanish.bounds import NonNegativeInt, PositiveInt, check_bounds


@dataclass(frozen=True)
class Loading:
    """How data are split and batched; the last argument of every data module.

    Args:
        batch_size: Rows in a batch, on each device.
        seed: Fixes the order of the training batches, and what is drawn to augment them.
        split_seed: Fixes which rows go to which split, and what is drawn where the data are.
        validation_share: Share of the training rows that is held out for validation, below 1; 0 for no validation
            split. For a series also a number of rows.
        test_share: Share of the rows to test on, below 1, if there is no official test split, folder or file.
        device_resident: Whether to keep the whole data set on the trainer's device.

    Raises:
        ValueError: A number is out of its range.
    """

    batch_size: PositiveInt = 32
    seed: NonNegativeInt = 0
    split_seed: NonNegativeInt = 0
    validation_share: int | float = 0.1
    test_share: int | float = 0.2
    device_resident: bool = False

    def __post_init__(self) -> None:
        check_bounds(Loading, vars(self))

    def check_shares(self, *, needs_test: bool) -> None:
        """Refuse shares that are out of range, or that leave nothing to train on.

        Args:
            needs_test: Whether there must be a test split; if not, a share of 0 leaves none.

        Raises:
            ValueError: A share is out of its range.
        """
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share must be at least 0 and below 1, not {self.validation_share}")
        least = "above 0" if needs_test else "at least 0"
        if not 0 <= self.test_share < 1 - self.validation_share or (needs_test and self.test_share == 0):
            raise ValueError(f"test_share must be {least} and below 1 - validation_share, not {self.test_share}")


@dataclass(frozen=True)
class Description:
    """What a network must know about the data; a data module has every field as a property.

    Args:
        task: binary, multiclass, regression or next_token.
        input_shape: Axes of one x, without the batch axis.
        output_size: 1 for binary; the number of classes for multiclass, of targets for regression, of tokens for
            next_token.
        class_names: The name of each class in the order of y; the second is binary's positive one.
        target_mean: (D,) mean of the training targets in their own units, where y is standardised.
        target_std: (D,) their standard deviation; ``y * target_std + target_mean`` has their own units.
        target_names: What each of the D targets is called, with the step of a forecast.
        vocabulary_size: The number V of different tokens, where x holds tokens.
        padding_index: The token that pads a short sequence, at its end.
    """

    task: str
    input_shape: tuple[int, ...]
    output_size: int
    class_names: list[str] | None = None
    target_mean: Tensor | None = None
    target_std: Tensor | None = None
    target_names: list[str] | None = None
    vocabulary_size: int | None = None
    padding_index: int | None = None


class Splits(NamedTuple):
    """The tensors (x, y) of every split, on the CPU; validation and test may be empty.

    x may stay in a file, as ``FileRows``. ``predict`` is empty for the test split, (x,) where y is unknown. ``rows``
    says what each sample to predict is: a file, or a row of the table, from 0; empty where that is its place.
    ``carried`` are columns to set beside the predictions: ids, and what is known to be right.
    """

    train: tuple[Any, ...]
    validation: tuple[Any, ...]
    test: tuple[Any, ...]
    predict: tuple[Any, ...] = ()
    rows: Sequence[int] | Sequence[str] = ()
    carried: Mapping[str, Sequence[Any]] = {}
