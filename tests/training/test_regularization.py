import re

import pytest
import torch

from unvanish.training import Optimizer, Regularization
from unvanish.training.regularization import weights_of


@pytest.mark.parametrize(("l1", "l2"), [(0.1, 0.0), (0.0, 0.01), (0.1, 0.01)])
def test_penalty_and_its_gradient(affine, l1, l2):
    model, regularization = affine(5, 3), Regularization(l1=l1, l2=l2)
    w = torch.arange(-7.0, 8.0).view(3, 5)
    with torch.no_grad():
        model.linear.weight.copy_(w)
    penalty = regularization.penalty(weights_of(model))
    penalty.backward()
    assert penalty.item() == pytest.approx(l1 * 56 + l2 * 280)
    torch.testing.assert_close(model.linear.weight.grad, l1 * w.sign() + 2 * l2 * w)
    assert model.linear.bias.grad is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_max_norm_shrinks_long_rows_after_a_step_and_nothing_else(affine, fit, optimizer):
    models = [
        affine(2, 5, optimizer=Optimizer(optimizer, 0.1), regularization=Regularization(max_norm=c))
        for c in (None, 0.5)
    ]
    x = torch.linspace(-1, 2, 14).view(7, 2)
    for model in models:
        fit(model, x, torch.arange(7) % 5)
    free, kept = (model.linear.weight for model in models)
    norms = free.norm(dim=1)
    assert (norms > 0.5).tolist() == [True, True, False, True, True]
    torch.testing.assert_close(kept, free * (0.5 / norms).clamp(max=1)[:, None])
    assert torch.equal(kept[2], free[2])
    assert torch.equal(*(model.linear.bias for model in models))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("l1", -0.1, "regularization.l1 is -0.1; it must be finite and not negative"),
        ("dropout", 1.0, "regularization.dropout is 1.0; it must be at least 0 and below 1"),
        ("label_smoothing", 1.0, "regularization.label_smoothing is 1.0; it must be at least 0 and below 1"),
        ("max_norm", 0.0, "regularization.max_norm is 0.0; it must be finite and positive"),
    ],
)
def test_numbers_out_of_range_are_refused(option, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Regularization(**{option: value})
