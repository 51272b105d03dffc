import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from unvanish.training import OBJECTIVES, Scores
from unvanish.training.evaluation import MOST_CURVES, Evaluation
from unvanish.training.metrics import METRICS, objective

UNEQUAL = [7, 3, 1]


def score(task, logits, y, sizes, selected="auto", *, loss="", is_whole=False, **rest):
    evaluation = Evaluation(task, loss, selected, is_whole=is_whole)
    for batch in zip(logits.split(sizes), y.split(sizes), strict=True):
        evaluation.update(*batch)
    return evaluation.compute(**rest)


def measure(*arguments, **rest):
    return score(*arguments, **rest).values


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
    assert measure("binary", torch.tensor(logits), torch.tensor(y).float(), sizes)["accuracy"] == share


def test_multiclass_accuracy_weighs_samples_not_batches():
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 1, 1, 2])]
    y = torch.tensor([0, 1, 2, 2, 1, 0, 0, 0, 0, 0, 2])
    assert measure("multiclass", logits, y, UNEQUAL) == {"accuracy": pytest.approx(8 / 11)}


def test_auroc_tells_sure_answers_apart():
    logits, y = torch.tensor([18.0, 20.0, 25.0, 30.0, -3.0, 200.0]), torch.tensor([0.0, 1, 0, 1, 0, 1])
    assert measure("binary", logits, y, [4, 2])["auroc"] == pytest.approx(sk.roc_auc_score(y, logits))


def test_binary_scores_are_those_of_sklearn_whatever_range_a_batch_of_logits_has():
    logits = torch.tensor([-7.0, 3.0, 0.5, -0.5, 5.0, 9.0, -2.0, 0.4, 0.1, 0.9, 0.5])  # the last four lie in [0, 1]
    y = torch.tensor([0.0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1])
    found = score("binary", logits, y, UNEQUAL, is_whole=True)
    said, no = logits > 0, np.zeros(11)
    assert found.values == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, said),
            "precision": sk.precision_score(y, said),
            "recall": sk.recall_score(y, said),
            "f1": sk.f1_score(y, said),
            "auroc": sk.roc_auc_score(y, logits),
            "average_precision": sk.average_precision_score(y, logits),
        }
    )
    assert found.confusion == sk.confusion_matrix(y, said).tolist()
    assert found.baselines["constant"] == pytest.approx(
        {
            "accuracy": 6 / 11,
            "precision": 0,
            "recall": 0,
            "f1": 0,
            "auroc": 0.5,
            "average_precision": sk.average_precision_score(y, no),
        }
    )
    assert set(measure("binary", logits, y, UNEQUAL)) == {"accuracy", "auroc"}
    assert set(measure("binary", logits, y, UNEQUAL, "f1")) == {"accuracy", "auroc", "f1"}


def test_two_classes_of_a_multiclass_task_have_the_scores_of_a_binary_one():
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    logits = torch.tensor([[0.0, 18.0], [1, 21], [3, -2], [0, 30], [-1, 1], [5, 5.5]])
    found = score("multiclass", logits, y, [4, 2], is_whole=True)
    assert found == score("binary", logits[:, 1] - logits[:, 0], y.float(), [6], is_whole=True)
    assert found.values["auroc"] == pytest.approx(sk.roc_auc_score(y, logits[:, 1] - logits[:, 0]))


def test_scores_of_more_classes_are_means_over_them_and_those_of_sklearn():
    torch.manual_seed(0)
    y = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2, 0, 0])
    logits = torch.randn(11, 3) + torch.eye(3)[y]
    found, said = score("multiclass", logits, y, UNEQUAL, is_whole=True), logits.argmax(1)
    p = logits.softmax(1)
    one_against_others = [(y == i).int().numpy() for i in range(3)]
    areas = [sk.average_precision_score(one, p[:, i]) for i, one in enumerate(one_against_others)]
    assert found.values == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, said),
            "precision": sk.precision_score(y, said, average="macro"),
            "recall": sk.recall_score(y, said, average="macro"),
            "f1": sk.f1_score(y, said, average="macro"),
            "auroc": sk.roc_auc_score(y, p, multi_class="ovr"),
            "average_precision": np.mean(areas),
        }
    )
    by_class = sk.precision_recall_fscore_support(y, said)
    for i, row in enumerate(found.by_class()):
        assert [*row.values()] == pytest.approx([column[i] for column in by_class])
    always = np.zeros(11)
    f1 = sk.f1_score(y, always, average="macro")
    constant = {"accuracy": 5 / 11, "recall": 1 / 3, "f1": f1, "auroc": 0.5, "average_precision": 1 / 3}
    assert found.baselines["constant"] == pytest.approx(constant | {"precision": 5 / 33})


def test_curves_of_many_classes_are_left_out_unless_asked_for():
    y = torch.arange(MOST_CURVES + 1)
    logits = torch.eye(len(y))
    assert "auroc" not in measure("multiclass", logits, y, [len(y)], is_whole=True)
    assert measure("multiclass", logits, y, [len(y)], "auroc")["auroc"] == 1


@pytest.mark.parametrize("targets", [1, 2])
def test_errors_of_numbers_are_those_of_sklearn_in_their_own_units(targets):
    y = torch.linspace(-3, 5, 11 * targets).view(11, targets).sin()
    logits = y + torch.linspace(-2, 9, 11 * targets).view(11, targets).cos() / 2
    scale = torch.tensor([10.0, 100.0])[:targets]
    truth, predicted = (y * scale).numpy(), (logits * scale).numpy()
    found = score("regression", logits, y, UNEQUAL, scale=scale, loss="mse", baselines={"rmse_seasonal_naive": 7.0})
    assert found.values == {
        "rmse": pytest.approx(math.sqrt(sk.mean_squared_error(truth, predicted))),
        "mae": pytest.approx(sk.mean_absolute_error(truth, predicted)),
        "r2": pytest.approx(sk.r2_score(truth, predicted)),
    }
    mean, median = np.broadcast_to(truth.mean(0), truth.shape), np.broadcast_to(np.median(truth, 0), truth.shape)
    assert found.baselines == {
        "constant": {
            "rmse": pytest.approx(math.sqrt(sk.mean_squared_error(truth, mean))),
            "mae": pytest.approx(sk.mean_absolute_error(truth, median)),
            "r2": 0,
            "loss": pytest.approx(((y - y.mean(0)) ** 2).mean().item()),
        },
        "seasonal naive": {"rmse": 7.0},
    }
    assert not found.confusion


@pytest.mark.parametrize(
    ("task", "logits", "y", "absent", "values"),
    [
        ("binary", [0.5, -1.0, 2.0], [1.0, 1.0, 1.0], {"auroc"}, {"accuracy": 2 / 3, "average_precision": 1}),
        ("binary", [0.5, -1.0, 2.0], [0.0, 0.0, 0.0], {"auroc", "average_precision"}, {"accuracy": 1 / 3}),
        ("binary", [0.5], [1.0], {"auroc"}, {"accuracy": 1, "average_precision": 1}),
        ("multiclass", [[3.0, 1.0, 2.0], [0.0, 1.0, 0.0]], [0, 0], {"auroc"}, {"accuracy": 1 / 2}),
        ("regression", [[0.5]], [[1.5]], {"r2"}, {"rmse": 1, "mae": 1}),
        ("regression", [[0.5, 3.0]], [[1.5, 0.0]], {"r2"}, {"rmse": math.sqrt(5), "mae": 2}),
    ],
)
def test_what_too_few_samples_or_classes_leave_undefined_is_absent_and_said(task, logits, y, absent, values):
    with pytest.warns(UserWarning, match=f"^{', '.join(sorted(absent))}: not measured"):
        found = score(task, torch.tensor(logits), torch.tensor(y), [len(y)], is_whole=True)
    assert METRICS[task].keys() - found.values.keys() == absent
    assert found.baselines["constant"].keys() == found.values.keys()
    assert {name: found.values[name] for name in values} == pytest.approx(values)


def test_the_loss_of_the_constant_answer_is_the_entropy_of_the_classes():
    y = torch.tensor([0, 0, 0, 1, 2, 2, 0])
    found = score("multiclass", torch.zeros(7, 3), y, [7], loss="cross_entropy").baselines["constant"]["loss"]
    share = torch.tensor([4, 1, 2]) / 7
    assert found == pytest.approx(torch.nn.functional.cross_entropy(share.log().expand(7, 3), y).item())
    assert "loss" not in score("multiclass", torch.zeros(7, 3), y, [7], loss="focal").baselines["constant"]


def test_perplexity_is_the_exponential_of_the_mean_surprise():
    probabilities = torch.tensor([[[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]], [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]])
    y = torch.tensor([[0, 1], [0, 2]])
    found = score("next_token", probabilities.log(), y, [1, 1])
    assert found.values == {"perplexity": pytest.approx((0.5 * 0.25 * 0.1 * 0.6) ** (-1 / 4))}
    assert found.baselines["constant"]["perplexity"] == pytest.approx((0.5 * 0.25 * 0.5 * 0.25) ** (-1 / 4))
    assert measure("next_token", torch.zeros(2, 2, 7), y, [2]) == {"perplexity": pytest.approx(7)}


def test_a_network_that_says_no_to_one_in_fifty_is_no_better_than_saying_so():
    y = torch.tensor([1.0] + [0.0] * 49)
    found = score("binary", torch.linspace(-2, -1, 50), y, [50], is_whole=True)
    assert found.values["accuracy"] == pytest.approx(0.98)
    assert found.not_better("binary") == {"constant": list(METRICS["binary"])}
    assert Scores({"rmse": 1.0}, {"naive": {"rmse": 2.0}}).not_better("regression") == {}
    assert Scores({"rmse": 2.0}, {"naive": {"rmse": 2.0}}).not_better("regression") == {"naive": ["rmse"]}


@pytest.mark.parametrize("task", OBJECTIVES)
def test_a_task_is_compared_by_one_of_its_metrics_or_another_that_is_asked_for(task):
    (metric, mode), largest = objective(task, "auto"), {"accuracy": "max", "rmse": "min", "perplexity": "min"}
    assert mode == largest[metric]
    assert objective(task, "loss") == ("loss", "min")
    for name, found in METRICS[task].items():
        assert objective(task, name) == (name, found.mode)
    with pytest.raises(ValueError, match=f"unknown metric of a {task} task 'accurracy'.*known: "):
        objective(task, "accurracy")
