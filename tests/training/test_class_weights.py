from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unvanish.training import Loss, Regularization, Training
from unvanish.training.class_weights import weights_of_classes

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0], [0.2, 0.1, 0.3], [3.0, -3.0, 0.0]])
Y = torch.tensor([2, 0, 1, 0])
WEIGHTS = torch.tensor([1.0, 5.0, 0.5])


def data(y, classes, task="multiclass"):
    return SimpleNamespace(task=task, output_size=classes, splits=SimpleNamespace(train=(None, y)), class_names=None)


def test_balanced_weights_are_those_of_sklearn():
    from sklearn.utils.class_weight import compute_class_weight

    y = torch.tensor([0] * 7 + [1] * 2 + [2] * 2)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y.numpy())
    assert weights_of_classes("balanced", data(y, 3)).tolist() == pytest.approx(expected)
    assert weights_of_classes("balanced", data((y > 0).float(), 1, "binary")).tolist() == pytest.approx(
        [11 / 14, 11 / 8]
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_class_counts_as_much_as_its_weight_says(smoothing):
    weighted = Loss().build("multiclass", smoothing, WEIGHTS)(LOGITS, Y)
    assert weighted == F.cross_entropy(LOGITS, Y, WEIGHTS, label_smoothing=smoothing)
    z, y, pair = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([2.0, 7.0])
    smooth = y * (1 - smoothing) + smoothing / 2
    losses, counts = F.binary_cross_entropy_with_logits(z, smooth, reduction="none"), torch.tensor([7.0, 2.0, 7.0])
    expected = (losses * counts).sum() / counts.sum()
    assert Loss().build("binary", smoothing, pair)(z, y) == pytest.approx(expected.item())


def test_the_focal_loss_without_focus_is_the_weighted_cross_entropy():
    focal = Loss("focal", {"gamma": 0.0}).build("multiclass", 0.0, WEIGHTS)(LOGITS, Y)
    assert focal.item() == pytest.approx(F.cross_entropy(LOGITS, Y, WEIGHTS).item())


def test_weights_of_one_change_nothing():
    for name in ("auto", "focal"):
        plain, same = Loss(name).build("multiclass"), Loss(name).build("multiclass", 0.0, torch.ones(3))
        assert same(LOGITS, Y).item() == pytest.approx(plain(LOGITS, Y).item())


def test_a_network_trains_with_its_weights_and_is_validated_without(affine):
    model = affine(3, 3, class_weights=[1.0, 5.0, 0.5], regularization=Regularization(label_smoothing=0.1))
    model.weigh_classes(data(Y, 3))
    assert model.training_loss(LOGITS, Y) == F.cross_entropy(LOGITS, Y, WEIGHTS, label_smoothing=0.1)
    assert model.loss(LOGITS, Y) == F.cross_entropy(LOGITS, Y)


@pytest.mark.parametrize(
    ("task", "weights", "message"),
    [
        ("regression", "balanced", "class_weights is for binary and multiclass tasks; this task is regression"),
        ("next_token", [1.0], "this task is next_token"),
        ("binary", "equal", "class_weights is 'equal'; it is a number for each class, or 'balanced'"),
        ("binary", [1.0, -1.0], "not negative"),
        ("binary", [0.0, 0.0], "not all 0"),
        ("binary", [], "not all 0"),
    ],
)
def test_weights_that_cannot_be_are_refused(task, weights, message):
    with pytest.raises(ValueError, match=message):
        Training(task, class_weights=weights)


def test_weights_that_do_not_fit_the_data_are_refused():
    with pytest.raises(ValueError, match="class_weights has 2 numbers, and there are 3 classes"):
        weights_of_classes([1.0, 2.0], data(Y, 3))
    with pytest.raises(ValueError, match="needs a data module with output_size and splits"):
        weights_of_classes("balanced", None)
