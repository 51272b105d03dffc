import math

import pytest
import torch
from lightning import Callback, LightningDataModule
from lightning.pytorch.loggers import Logger

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


@pytest.mark.parametrize(
    ("task", "outputs", "shape"),
    [
        ("binary", torch.zeros(7, 1), (7,)),
        ("binary", torch.zeros(1, 1), (1,)),  # a batch of one sample keeps its axis
        ("binary", torch.zeros(7), (7,)),
        ("multiclass", torch.zeros(7, 3), (7, 3)),
        ("regression", torch.zeros(7, 1), (7, 1)),
    ],
)
def test_logits_of_a_binary_task_alone_have_no_axis_of_outputs(affine, task, outputs, shape):
    assert affine(3, 1, task=task).logits_of(outputs).shape == shape


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


class Kept(Logger):
    """Keeps what it is given, by step."""

    name, version = "kept", 0

    def __init__(self):
        super().__init__()
        self.losses = {}

    def log_metrics(self, metrics, step=None):
        if "train/loss" in metrics:
            self.losses[step] = metrics["train/loss"]

    def log_hyperparams(self, params):
        pass


class Noted(Callback):
    """Notes the loss of each batch, and that which a validation or an epoch's end finds."""

    def __init__(self):
        self.batches, self.found = [], {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append(outputs["loss"].item())

    def on_validation_end(self, trainer, pl_module):
        self.found[trainer.global_step] = trainer.callback_metrics["train/loss"].item()

    on_train_epoch_end = on_validation_end


def test_the_loss_is_logged_where_it_is_read_and_is_that_batchs(affine, trainer):
    loader, kept, noted = BatchLoader((X, LABELS), 1, shuffle=True), Kept(), Noted()
    cadence = {"log_every_n_steps": 4, "val_check_interval": 3, "max_steps": 11, "max_epochs": 2}
    run = trainer(logger=kept, callbacks=[noted], num_sanity_val_steps=0, **cadence)
    run.fit(affine(3, 5), loader, BatchLoader((X, LABELS), 7))
    assert len(loader) == 7
    assert len(noted.batches) == 11
    assert kept.losses == pytest.approx({3: noted.batches[3], 7: noted.batches[7]})
    assert noted.found == pytest.approx({step: noted.batches[step - 1] for step in (3, 6, 7, 10, 11)})


def test_a_run_that_is_told_to_stop_logs_its_last_batch(affine, fit):
    class Stops(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.global_step == 3

    kept, noted = Kept(), Noted()
    fit(affine(3, 5), X, LABELS, batch_size=1, logger=kept, callbacks=[noted, Stops()], log_every_n_steps=2)
    assert kept.losses == pytest.approx({1: noted.batches[1], 2: noted.batches[2]})
