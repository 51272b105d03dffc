import math

import pytest
import torch
from lightning import LightningDataModule

from unvanish.data import BatchLoader
from unvanish.training import Loss, Optimizer, Regularization

X = torch.linspace(-2, 2, 21).view(7, 3).cos()
Y = torch.linspace(1, -3, 14).view(7, 2)
LABELS = torch.tensor([0, 1, 1, 0, 4, 3, 2])


def test_one_step_of_sgd_is_the_one_written_by_hand(affine, fit):
    model = affine(
        3, 2, task="regression", regularization=Regularization(l2=0.05), optimizer=Optimizer("sgd", learning_rate=0.1)
    )
    w, b = (parameter.detach().clone() for parameter in model.parameters())
    run = fit(model, X, Y)
    error = X @ w.T + b - Y
    torch.testing.assert_close(model.linear.weight, w - 0.1 * (2 / 14 * error.T @ X + 2 * 0.05 * w))
    torch.testing.assert_close(model.linear.bias, b - 0.1 * 2 / 14 * error.sum(0))
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    assert logged == pytest.approx(
        {"train/loss": error.square().mean().item(), "train/penalty": 0.05 * w.square().sum().item()}
    )


def test_decay_shrinks_the_weights_by_eta_lambda_and_the_bias_not_at_all(affine, fit):
    optimizer = Optimizer("adamw", learning_rate=0.1)
    free, decayed = (
        affine(3, 5, regularization=Regularization(weight_decay=rate), optimizer=optimizer) for rate in (0.0, 0.3)
    )
    w = free.linear.weight.detach().clone()
    for model in (free, decayed):
        fit(model, X, LABELS)
    torch.testing.assert_close(decayed.linear.weight, free.linear.weight - 0.1 * 0.3 * w)
    assert torch.equal(decayed.linear.bias, free.linear.bias)


def test_without_a_penalty_none_is_logged(affine, fit):
    assert set(fit(affine(3, 5), X, LABELS).callback_metrics) == {"train/loss"}


def test_labels_are_smoothed_in_training_only(affine, fit, trainer):
    model = affine(3, 5, regularization=Regularization(label_smoothing=0.5))
    log_p = model(X).detach().log_softmax(1)
    plain, spread = -log_p[range(7), LABELS].mean().item(), -log_p.mean().item()
    (validated,) = trainer().validate(model, BatchLoader((X, LABELS), 7), verbose=False)
    run = fit(model, X, LABELS)
    assert validated["val/loss"] == pytest.approx(plain)
    assert run.callback_metrics["train/loss"].item() == pytest.approx((plain + spread) / 2)


def test_evaluation_weighs_batches_by_their_size(affine, trainer):
    model = affine(3, 2, task="regression", loss=Loss("mae"))
    error = model(X).detach() - Y
    expected = {
        "loss": error.abs().mean().item(),
        "rmse": error.square().mean().sqrt().item(),
        "mae": error.abs().mean().item(),
        "r2": (1 - error.square().sum(0) / (Y - Y.mean(0)).square().sum(0)).mean().item(),
        "rmse_constant": (Y - Y.mean(0)).square().mean().sqrt().item(),
    }
    loader, run = BatchLoader((X, Y), 5), trainer()
    for evaluate, prefix in ((run.validate, "val/"), (run.test, "test/")):
        (found,) = evaluate(model, loader, verbose=False)
        assert found == pytest.approx({prefix + name: value for name, value in expected.items()})


class Standardised(LightningDataModule):
    target_std = torch.tensor([2.0, 10.0])

    def val_dataloader(self):
        return BatchLoader((X, Y), 5)


def test_rmse_is_in_the_units_of_the_target_and_the_loss_is_not(affine, trainer):
    model = affine(3, 2, task="regression")
    error = model(X).detach() - Y
    (found,) = trainer().validate(model, datamodule=Standardised(), verbose=False)
    first, second = error.square().mean(0).tolist()
    assert found["val/rmse"] == pytest.approx(math.sqrt((2**2 * first + 10**2 * second) / 2))
    assert found["val/loss"] == pytest.approx((first + second) / 2)
    assert found["val/r2"] == pytest.approx((1 - error.square().sum(0) / (Y - Y.mean(0)).square().sum(0)).mean().item())


@pytest.mark.parametrize(
    ("task", "outputs", "formula"),
    [
        ("binary", 1, lambda z: 1 / (1 + (-z[..., 0]).exp())),
        ("multiclass", 5, lambda z: z.exp() / z.exp().sum(-1, keepdim=True)),
        ("next_token", 5, lambda z: z.exp() / z.exp().sum(-1, keepdim=True)),
        ("regression", 2, lambda z: z),
    ],
)
def test_predictions_are_probabilities_or_the_output_itself(affine, trainer, task, outputs, formula):
    model, x = affine(3, outputs, task=task), X.view(7, 1, 3) if task == "next_token" else X
    predicted = trainer().predict(model, BatchLoader((x,), 5))
    assert [len(batch) for batch in predicted] == [5, 2]
    expected = formula(x @ model.linear.weight.T + model.linear.bias).detach()
    torch.testing.assert_close(torch.cat(predicted), expected)
