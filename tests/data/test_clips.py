import numpy as np
import pytest
import torch
from build import build

from unvanish.data import Images, MovingDigits
from unvanish.data.clips import DIRECTIONS

SMALL = {"clips": 67, "validation_clips": 41, "test_clips": 43, "batch_size": 11}


def grey(data):
    """The x of each split as it was before normalising: whole numbers from 0 to 16."""
    return [(x * data.pixels.std + data.pixels.mean).round().int().numpy() for x, _ in data.splits[:3]]


def digits_of(split_seed=0):
    """The images of each split of Images, each with its class."""
    data = build(Images, "digits", split_seed=split_seed)
    splits = zip(grey(data), data.splits[:3], strict=True)
    return [{image.tobytes(): label for image, label in zip(x, y.tolist(), strict=True)} for x, (_, y) in splits]


def answers(clip, known, steps):
    """What a clip (T, size, size) shows: the digits in its first frame that, rolled on, make all frames, and where."""
    digits, directions = set(), set()
    for corner in np.ndindex(clip[0].shape):
        first = np.roll(clip[0], np.negative(corner), (0, 1))
        digit = np.ascontiguousarray(first[:8, :8]).tobytes()
        if digit not in known or first.sum() != first[:8, :8].sum():
            continue
        for direction, step in enumerate(steps):
            rolled = [np.roll(clip[0], np.multiply(step, t), (0, 1)) for t in range(len(clip))]
            if np.array_equal(rolled, clip):
                digits.add(known[digit])
                directions.add(direction)
    return {"digit": digits, "direction": directions}


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "size", "directions"), [(8, 16, 4), (5, 11, 8), (3, 8, 8)])
@pytest.mark.parametrize("label", ["digit", "direction"])
def test_a_digit_of_its_split_moves_one_step_a_frame_as_the_label_says(label, frames, size, directions):
    data = build(MovingDigits, label, directions, frames, size, **SMALL)
    assert data.input_shape == (1, frames, size, size)
    steps = list(DIRECTIONS.values())[:directions]
    assert [len(y) for _, y in data.splits[:3]] == [67, 41, 43]
    for clips, (_, y), known in zip(grey(data), data.splits[:3], digits_of(), strict=True):
        for clip, truth in zip(clips[:, 0], y.tolist(), strict=True):
            assert answers(clip, known, steps)[label] == {truth}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "directions", "names"),
    [
        ("digit", 8, "0 1 2 3 4 5 6 7 8 9"),
        ("direction", 4, "right down left up"),
        ("direction", 8, "right down left up down_right down_left up_left up_right"),
    ],
)
def test_the_description_names_the_classes_and_all_of_them_come(label, directions, names):
    data = build(MovingDigits, label, directions)
    assert (data.task, data.output_size, data.class_names) == ("multiclass", len(names.split()), names.split())
    for _, y in data.splits[:3]:
        shares = torch.bincount(y, minlength=data.output_size) / len(y)
        assert (shares * data.output_size).sub(1).abs().max() < 0.4


def test_digits_of_one_split_are_in_no_other():
    train, validation, test = map(set, digits_of())
    assert not train & test
    assert not train & validation
    assert not validation & test


def test_clips_are_normalised_by_the_training_split_and_black_is_the_background():
    data = build(MovingDigits, **SMALL)
    x = data.splits.train[0]
    assert (x.dtype, x.shape) == (torch.float32, (67, 1, 8, 16, 16))
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert data.pixels.black.item() == x.min().item()


def test_seeds_fix_what_they_say():
    first = build(MovingDigits, **SMALL).splits
    order = build(MovingDigits, **SMALL, seed=1).splits
    other = build(MovingDigits, **SMALL, split_seed=1).splits
    more = build(MovingDigits, **SMALL | {"test_clips": 50}).splits
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first[:3], order[:3], strict=True))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(first[:3], other[:3], strict=True))
    assert torch.equal(first.train[0], more.train[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "digits"}, "unknown label 'digits'; did you mean 'digit'"),
        ({"directions": 6}, "directions must be 4 or 8, not 6"),
        ({"frames": 1}, "frames is 1; it must be at least 2"),
        ({"size": 7}, "size is 7; it must be at least 8"),
        ({"clips": 0}, "clips is 0; it must be at least 1"),
    ],
)
def test_arguments_of_moving_digits_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(MovingDigits, **options)
