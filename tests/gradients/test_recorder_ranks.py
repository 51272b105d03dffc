"""Two ranks beside one process that has the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from autograd_twin import state_gradients
from ranks_worker import CASES, RANKS, data, network, share
from recorded import NETWORKS, assert_records, sequence_of, train
from torch.nn import functional as F

from unvanish.gradients import Report
from unvanish.gradients.judge.rules import RANKS_APART
from unvanish.gradients.quantities.drift import DRIFT
from unvanish.gradients.quantities.weight import WEIGHT_NORM

pytestmark = pytest.mark.slow


def run(folder):
    """What each rank has found, in whatever way they train together."""
    command = [sys.executable, str(Path(__file__).with_name("ranks_worker.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(folder), *CASES],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(RANKS)
    ]  # fmt: skip
    output = [rank.communicate(timeout=200)[0] for rank in ranks]
    assert not any(rank.returncode for rank in ranks), "\n".join(output)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def small_batches(parts):
    return [(share(x, rank), share(y, rank)) for x, y in parts for rank in range(RANKS)]


def expected_of(how, name, micro_batches):
    activations = NETWORKS["pooled" if name == "unnormalized" else name][1]
    steps = data(micro_batches)
    expected = train(lambda: network(name), network(name), steps, activations, clip=0.01, small_batches=small_batches)
    if how == "ddp":
        expected = [
            (values | {DRIFT.name: dict.fromkeys(values["weight_norm"], 0.0)}, totals, histograms)
            for values, totals, histograms in expected
        ]
    else:
        expected = [
            (
                {n: found for n, found in values.items() if not n.startswith("twin_")},
                {n: total for n, total in totals.items() if "noise" not in n},
                histograms,
            )
            for values, totals, histograms in expected
        ]
    return expected


def test_each_rank_finds_what_one_process_finds_over_the_whole_batch_and_who_has_drifted_apart_is_told(tmp_path):
    ranks = run(tmp_path)
    assert list(ranks[0]) == [(how, *case) for how, cases in CASES.items() for case in cases]
    for case in ranks[0]:
        if case[0] in ("apart", "own"):
            continue
        expected = expected_of(*case)
        for found in ranks:
            records, notes = found[case]
            print(case)  # shown where one fails
            assert_records(records, expected, rel=1e-9)
            check_states(case, records[0], notes)
    check_drift(ranks)


def check_drift(ranks):
    """Ranks that train alone are told by their weights, and what is each rank's own is left out."""
    norms = [
        {name.removesuffix(".weight"): p.norm().item() for name, p in network("mlp", seed).named_parameters()}
        for seed in range(RANKS)
    ]
    for found in ranks:
        records, _ = found["apart", "mlp", 1]
        drift = records[0].of(DRIFT)
        assert len(drift) > 1
        for name, spread in drift.items():
            small, large = sorted(norm[name] for norm in norms)
            assert spread == pytest.approx((large - small) / large, rel=1e-9)
        report = Report()
        report.add(records)
        assert report.end.name == RANKS_APART.name
        records, notes = found["own", "mlp", 1]
        first, *others = records[0].of(WEIGHT_NORM)
        assert records[0].of(DRIFT) == dict.fromkeys(others, 0.0)
        why = "DistributedDataParallel leaves them out, so each rank trains its own"
        assert f"what other ranks hold of {first} was not measured: {why}" in notes
        report = Report()
        report.add(records[:1])  # then clipping by a norm that has own gradients in it sets the others apart
        assert RANKS_APART.name not in [finding.name for finding in report.end.findings]
    norms = [found["own", "mlp", 1][0][0].of(WEIGHT_NORM)[first] for found in ranks]
    assert norms[1] == pytest.approx(2 * norms[0])


def check_states(case, record, notes):
    """The state's gradient in a recurrent layer, and what sharded weights hide."""
    how, name, micro_batches = case
    if name == "lstm" and how == "ddp":
        model = network(name)
        squares = 0.0
        for x, y in data(micro_batches)[0]:
            found = state_gradients(
                model.rnn, sequence_of(x), lambda ys, h, c, y=y: F.cross_entropy(model.leave(ys[-1]), y) / micro_batches
            )
            squares = squares + torch.tensor(found) ** 2
        expected = {t: norm.item() for t, norm in enumerate(squares.sqrt(), 1)}
        assert record.through_time == {"rnn": pytest.approx(expected, rel=1e-6)}
    else:
        assert record.through_time == {}
    said = set()
    if how != "ddp":
        why = "sharded weights do not show the gradient of one micro-batch"
        said.add(f"gradient noise scale of the network was not measured: {why}")
        said.add("how alike units begin of the network was not measured: no rank has whole weights")
        if name == "lstm":
            said.add("dL/dh_t of rnn was not measured: its weights are sharded")
    unsaid = ("delta of", "residual stream of", "2 parameters without a gradient: unused")
    assert {note for note in notes if not note.startswith(unsaid)} == said
