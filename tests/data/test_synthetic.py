import json
import math
import time

import numpy as np
import pytest
import torch
from build import build

from unvanish.command.main import main
from unvanish.data.synthetic import SyntheticSequence

COUNTS = {"samples": 401, "validation_samples": 103, "test_samples": 53}


def make(problem, length, **options):
    return build(SyntheticSequence, problem, length, **COUNTS | {"batch_size": 7} | options)


def rows_of(data):
    """Every sequence and its answer, as Python lists."""
    return [row for x, y in data.splits[:3] for row in zip(x.tolist(), y.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("problem", "length", "task", "shape", "outputs", "names", "vocabulary"),
    [
        ("adding", 11, "regression", (11, 2), 1, None, None),
        ("copy", 11, "next_token", (31,), 10, None, 10),
        ("parity", 11, "binary", (11, 1), 1, ["even", "odd"], None),
        ("xor", 11, "binary", (11, 1), 1, ["equal", "different"], None),
    ],
)
def test_the_description_fits_what_is_drawn(problem, length, task, shape, outputs, names, vocabulary):
    data = make(problem, length)
    assert (data.task, data.input_shape, data.output_size, data.class_names) == (task, shape, outputs, names)
    assert (data.vocabulary_size, data.padding_index) == (vocabulary, None)
    assert data.target_mean is data.target_std is None
    x, y = next(iter(data.train_dataloader()))
    dtypes = (torch.int64, torch.int64) if vocabulary else (torch.float32, torch.float32)
    answer = {"regression": (7, 1), "binary": (7,), "next_token": (7, *shape)}[task]
    assert (x.shape, y.shape, (x.dtype, y.dtype)) == ((7, *shape), answer, dtypes)
    assert [len(part[1]) for part in data.splits[:3]] == list(COUNTS.values())


@pytest.mark.parametrize("length", [2, 3, 11])
def test_adding_is_the_sum_of_two_marked_numbers_one_in_each_half(length):
    places = set()
    for steps, answer in rows_of(make("adding", length)):
        marked = [step for step, (_, mark) in enumerate(steps) if mark]
        assert {mark for _, mark in steps} <= {0, 1}
        assert len(marked) == 2
        assert marked[0] < length // 2 <= marked[1]
        assert answer == [pytest.approx(steps[marked[0]][0] + steps[marked[1]][0], abs=1e-6)]
        assert all(0 <= number < 1 for number, _ in steps)
        places |= set(marked)
    assert places == set(range(length))


@pytest.mark.parametrize("length", [1, 5])
def test_copy_recalls_the_ten_symbols_after_the_mark(length):
    seen = set()
    for steps, answer in rows_of(make("copy", length)):
        symbols = steps[:10]
        assert steps == [*symbols, *[8] * (length - 1), 9, *[8] * 10]
        assert answer == [*[8] * (length + 10), *symbols]
        seen |= set(symbols)
    assert seen == set(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 11, 300])
def test_parity_counts_ones(length):
    answers = set()
    for steps, answer in rows_of(make("parity", length)):
        bits = [bit for (bit,) in steps]
        assert set(bits) <= {0, 1}
        assert answer == sum(bits) % 2
        answers.add(answer)
    assert answers == {0, 1}


@pytest.mark.parametrize("length", [2, 11])
def test_xor_compares_the_first_two_bits(length):
    cases, noise = set(), []
    for ((first,), (second,), *rest), answer in rows_of(make("xor", length)):
        assert {first, second} <= {0, 1}
        assert answer == (first + second == 1)
        cases.add((first, second))
        noise += [value for (value,) in rest]
    assert len(cases) == 4
    assert all(0 <= value < 1 for value in noise)
    assert len(set(noise)) >= 0.99 * len(noise)


def test_the_squared_error_of_answering_one_is_a_sixth():
    data = make("adding", 11, validation_samples=50_000)
    y = data.splits.validation[1].double()
    assert data.baselines["val"]["rmse_constant"] ** 2 == pytest.approx(((y - 1) ** 2).mean().item())
    # The variance of (y - 1)^2 is 7/180: E (y - 1)^4 is 1/15 and 1/15 - 1/36 = 7/180.
    assert data.baselines["val"]["rmse_constant"] ** 2 == pytest.approx(1 / 6, abs=4 * math.sqrt(7 / 180 / 50_000))
    y = data.splits.test[1].double()
    assert data.baselines["test"] == {"rmse_constant": pytest.approx(((y - 1) ** 2).mean().sqrt().item())}


def test_copying_without_memory_costs_ten_times_the_logarithm_of_eight():
    data = make("copy", 13)
    for stage, (_, y) in zip(("val", "test"), data.splits[1:3], strict=True):
        logits = torch.full((*y.shape, 10), -1e9)
        logits[:, :-10, 8] = 0
        logits[:, -10:, :8] = 0
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), y.flatten())
        assert loss.item() == pytest.approx(10 * math.log(8) / (13 + 20))
        assert data.baselines[stage] == {"perplexity_memoryless": pytest.approx(loss.exp().item())}


@pytest.mark.parametrize("problem", ["parity", "xor"])
def test_the_commoner_answer_is_the_baseline_of_bits(problem):
    data = make(problem, 7)
    for stage, (_, y) in zip(("val", "test"), data.splits[1:3], strict=True):
        share = y.mean().item()
        assert data.baselines[stage] == {"accuracy_constant": pytest.approx(max(share, 1 - share))}


@pytest.mark.parametrize("problem", ["adding", "copy", "parity", "xor"])
def test_split_seed_alone_decides_what_is_drawn_and_each_split_has_its_own_stream(problem):
    plain, other_order, other = (make(problem, 29, **seeds) for seeds in ({}, {"seed": 5}, {"split_seed": 5}))
    longer = make(problem, 29, samples=507, validation_samples=53)
    for part in range(3):
        assert all(torch.equal(a, b) for a, b in zip(plain.splits[part], other_order.splits[part], strict=True))
        assert not torch.equal(plain.splits[part][0], other.splits[part][0])
    assert torch.equal(plain.splits.test[0], longer.splits.test[0])
    assert not torch.equal(longer.splits.validation[0], longer.splits.test[0])
    sequences = [tuple(np.ravel(steps)) for steps, _ in rows_of(plain)]
    assert len(set(sequences)) == len(sequences)
    assert not torch.equal(*(next(iter(data.train_dataloader()))[0] for data in (plain, other_order)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"problem": "ading"},
            r"unknown problem 'ading'; did you mean 'adding'\? \(known: adding, copy, parity, xor\)",
        ),
        ({"problem": "adding", "length": 1}, "length is 1; it must be at least 2"),
        ({"problem": "parity", "length": 0}, "length is 0; it must be at least 1"),
        ({"samples": 1}, "samples is 1; it must be at least 2"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(SyntheticSequence, **options)


def test_a_batch_greater_than_the_training_split_is_refused():
    with pytest.raises(ValueError, match="batch_size 402 is greater than the training split of 401 rows"):
        make("xor", 5, batch_size=402).train_dataloader()


def test_two_thousand_five_hundred_steps_of_the_adding_problem_are_drawn_quickly():
    begin = time.perf_counter()
    data = build(SyntheticSequence, "adding")
    assert data.splits.train[0].shape == (125_000, 100, 2)
    assert len(data.train_dataloader()) == 2500
    assert time.perf_counter() - begin < 10


@pytest.mark.slow
def test_xor_of_two_steps_is_learnt_and_its_baseline_printed_beside_it(workplace, capsys):
    (workplace / "xor.yaml").write_text(
        "model: {class_path: unvanish.MLP, hidden_sizes: [8], activation: tanh,\n"
        "  training: {optimizer: {learning_rate: 3e-2}}}\n"
        "data: {class_path: unvanish.data.synthetic.SyntheticSequence, problem: xor, length: 2, samples: 1000}\n"
        "trainer: {max_epochs: 10}\n"
    )
    assert main(["fit", "-c", "xor.yaml", "--no-gradients", "--data.test_samples=500"]) == 0
    capsys.readouterr()
    assert main(["test", "-c", "xor.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["accuracy"] == 1
    assert 0.5 <= found["baselines"]["constant"]["accuracy"] < 0.6
