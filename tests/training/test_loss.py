import math
import re

import pytest
import torch

from unvanish.training import Loss, Training

RESIDUALS = torch.tensor([[0.5, -3, 0], [1, -1, 7]])
BINARY = torch.linspace(-5, 3, 7).double(), torch.tensor([0, 1, 1, 0, 1, 0, 0]).double()
MULTICLASS = torch.linspace(-2, 3, 21).double().sin().view(7, 3), torch.tensor([2, 0, 1, 1, 2, 0, 2])
TOKENS = torch.linspace(-9, 7, 30).double().cos().view(2, 5, 3), torch.tensor([[2, 0, 1, 1, 0], [2, 2, 1, 0, 1]])


def binary_cross_entropy(z, y, smoothing):
    target = torch.where(y == 1, 1 - smoothing / 2, smoothing / 2)
    p = 1 / (1 + (-z).exp())
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def cross_entropy(z, y, smoothing):
    classes = z.shape[-1]
    target = torch.eye(classes)[y] * (1 - smoothing) + smoothing / classes
    return -(target * (z.exp() / z.exp().sum(-1, keepdim=True)).log()).sum(-1).mean()


CLASSIFICATION = [
    ("binary", BINARY, binary_cross_entropy),
    ("multiclass", MULTICLASS, cross_entropy),
    ("next_token", TOKENS, cross_entropy),
]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("task", "batch", "formula"), CLASSIFICATION)
def test_entropies_are_those_of_the_formula(task, batch, formula, smoothing):
    torch.testing.assert_close(Loss().build(task, smoothing)(*batch), formula(*batch, smoothing))


@pytest.mark.parametrize(("task", "batch", "formula"), CLASSIFICATION)
def test_focal_without_gamma_is_the_entropy(task, batch, formula):
    torch.testing.assert_close(Loss("focal", {"gamma": 0.0}).build(task)(*batch), formula(*batch, 0.0))


@pytest.mark.parametrize(("focal", "gamma"), [(Loss("focal"), 2), (Loss("focal", {"gamma": 1.0}), 1)])
def test_focal_by_hand(focal, gamma):
    logits = torch.tensor([4.0, 4.0]).log()  # p = 0.8
    expected = (0.2**gamma * -math.log(0.8) + 0.8**gamma * -math.log(0.2)) / 2
    assert focal.build("binary")(logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected)
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert focal.build("multiclass")(logits, torch.tensor([1])).item() == pytest.approx(0.7**gamma * -math.log(0.3))


@pytest.mark.parametrize(
    ("loss", "total"),
    [
        (Loss(), 0.25 + 9 + 0 + 1 + 1 + 49),
        (Loss("mse"), 0.25 + 9 + 0 + 1 + 1 + 49),
        (Loss("mae"), 0.5 + 3 + 0 + 1 + 1 + 7),
        (Loss("huber"), 0.125 + 2.5 + 0 + 0.5 + 0.5 + 6.5),
        (Loss("huber", {"delta": 2.0}), 0.125 + 4 + 0 + 0.5 + 0.5 + 12),
    ],
    ids=str,
)
def test_regression_losses_are_means_over_samples_and_targets(loss, total):
    y = torch.arange(6.0).view(2, 3)
    assert loss.build("regression")(y + RESIDUALS, y).item() == pytest.approx(total / 6)


@pytest.mark.parametrize("name", ["auto", "focal"])
@pytest.mark.parametrize(
    ("task", "logits", "y"),
    [
        ("binary", [1e4, -1e4, 1e4, -1e4], [1.0, 0.0, 0.0, 1.0]),
        ("multiclass", [[1e4, 0], [0, 1e4], [1e4, 0], [0, 1e4]], [0, 1, 1, 0]),
        ("next_token", [[[1e4, 0], [0, 1e4], [1e4, 0], [0, 1e4]]], [[0, 1, 1, 0]]),
    ],
)
def test_sure_answers_cost_nothing_or_their_logit_and_have_finite_gradients(name, task, logits, y):
    z = torch.tensor(logits, requires_grad=True)
    loss = Loss(name).build(task)(z, torch.tensor(y))
    loss.backward()
    assert loss.item() == pytest.approx((0 + 0 + 1e4 + 1e4) / 4)
    assert z.grad.abs().sum(-1).sum().item() == pytest.approx(2 / 4 * (1 if task == "binary" else 2))


@pytest.mark.parametrize(
    ("loss", "task", "smoothing", "message"),
    [
        (Loss("focla"), "binary", 0.0, "unknown loss 'focla'; did you mean 'focal'? (known: binary_cross_entropy, "),
        (Loss("mse"), "binary", 0.0, "loss 'mse' is for regression tasks; this task is binary"),
        (Loss("cross_entropy"), "regression", 0.0, "loss 'cross_entropy' is for multiclass and next_token tasks; "),
        (Loss("focal", {"gama": 1}), "binary", 0.0, "loss 'focal' takes no option 'gama'; did you mean 'gamma'?"),
        (Loss("huber", {"dleta": 1}), "regression", 0.0, "loss 'huber' takes no option 'dleta'; did you mean 'delta'?"),
        (Loss("mse", {"reduction": "sum"}), "regression", 0.0, "loss 'mse' takes no option 'reduction'"),
        (Loss("cross_entropy", {"label_smoothing": 0.1}), "multiclass", 0.0, "loss 'cross_entropy' takes no option "),
        (Loss("mse"), "regression", 0.1, "label_smoothing needs a cross-entropy loss; this one is 'mse'"),
        (Loss("focal"), "multiclass", 0.1, "label_smoothing needs a cross-entropy loss; this one is 'focal'"),
    ],
)
def test_losses_that_cannot_be_are_refused(loss, task, smoothing, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        loss.build(task, smoothing)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0])
@pytest.mark.parametrize(("task", "logits", "y"), [("multiclass", [[40.0, 0.0]], [0]), ("binary", [40.0], [1.0])])
def test_the_focal_loss_of_a_sure_answer_has_a_finite_gradient(task, logits, y, gamma):
    z = torch.tensor(logits, requires_grad=True)
    Loss("focal", {"gamma": gamma}).build(task)(z, torch.tensor(y)).backward()
    assert z.grad.isfinite().all()


def test_a_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="gamma of the focal loss is -1; it must not be negative"):
        Loss("focal", {"gamma": -1}).build("binary")(torch.ones(2), torch.ones(2))


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
def test_logits_that_torch_would_broadcast_are_refused(name):
    with pytest.raises(ValueError, match=re.escape("the network returns (3, 1) where y is (3,)")):
        Loss(name).build("regression")(torch.ones(3, 1), torch.ones(3))


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=re.escape("unknown task 'regresion'; did you mean 'regression'? (known: ")):
        Training(task="regresion")
