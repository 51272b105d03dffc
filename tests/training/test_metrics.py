import math

import pytest
import torch
from sklearn.metrics import mean_squared_error, r2_score, roc_auc_score

from unvanish.training import OBJECTIVES
from unvanish.training.metrics import build_metrics

UNEQUAL = [7, 3, 1]


def measure(task, logits, y, sizes):
    metrics = build_metrics(task, "val/")
    for batch in zip(logits.split(sizes), y.split(sizes), strict=True):
        metrics.update(*batch)
    return {name: value.item() for name, value in metrics.compute().items()}


@pytest.mark.parametrize(
    ("logits", "y", "share"),
    [
        ([0.1, 0.2, 0.9, 0.3], [1, 1, 1, 0], 3 / 4),  # taken for probabilities, two of four
        ([-0.1, 0.2, 7.0, -5.0], [1, 1, 0, 0], 2 / 4),
        ([0.6, 0.7, 0.8, -0.1], [1, 1, 1, 0], 4 / 4),
    ],
)
@pytest.mark.parametrize("sizes", [[4], [3, 1]])
def test_binary_accuracy_splits_logits_at_zero(logits, y, share, sizes):
    assert measure("binary", torch.tensor(logits), torch.tensor(y).float(), sizes)["val/accuracy"] == share


def test_multiclass_accuracy_weighs_samples_not_batches():
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 1, 1, 2])]
    y = torch.tensor([0, 1, 2, 2, 1, 0, 0, 0, 0, 0, 2])
    assert measure("multiclass", logits, y, UNEQUAL) == {"val/accuracy": pytest.approx(8 / 11)}


def test_auroc_tells_sure_answers_apart():
    logits, y = torch.tensor([18.0, 20.0, 25.0, 30.0, -3.0, 200.0]), torch.tensor([0.0, 1, 0, 1, 0, 1])
    assert measure("binary", logits, y, [4, 2])["val/auroc"] == pytest.approx(roc_auc_score(y, logits))


def test_auroc_is_that_of_sklearn_whatever_range_a_batch_of_logits_has():
    logits = torch.tensor([-7.0, 3.0, 0.5, -0.5, 5.0, 9.0, -2.0, 0.4, 0.1, 0.9, 0.5])  # the last four lie in [0, 1]
    y = torch.tensor([0.0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1])
    expected = roc_auc_score(y, logits)
    assert measure("binary", logits, y, UNEQUAL)["val/auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("targets", [1, 2])
def test_rmse_and_r2_are_those_of_sklearn(targets):
    y = torch.linspace(-3, 5, 11 * targets).view(11, targets).sin()
    logits = y + torch.linspace(-2, 9, 11 * targets).view(11, targets).cos() / 2
    truth, predicted = y.numpy(), logits.numpy()
    assert measure("regression", logits, y, UNEQUAL) == {
        "val/rmse": pytest.approx(math.sqrt(mean_squared_error(truth, predicted))),
        "val/r2": pytest.approx(r2_score(truth, predicted)),
    }


def test_perplexity_is_the_exponential_of_the_mean_surprise():
    probabilities = torch.tensor([[[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]], [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]])
    y = torch.tensor([[0, 1], [0, 2]])
    found = measure("next_token", probabilities.log(), y, [1, 1])
    assert found == {"val/perplexity": pytest.approx((0.5 * 0.25 * 0.1 * 0.6) ** (-1 / 4))}
    assert measure("next_token", torch.zeros(2, 2, 7), y, [2]) == {"val/perplexity": pytest.approx(7)}


@pytest.mark.parametrize("task", OBJECTIVES)
def test_a_task_is_compared_by_one_of_its_metrics(task):
    (metric, mode), largest = OBJECTIVES[task], {"accuracy": "max", "rmse": "min", "perplexity": "min"}
    assert metric in build_metrics(task, "val/")
    assert mode == largest[metric]
