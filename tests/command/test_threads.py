import os
import subprocess
import sys

import lightning as L
import pytest
import torch
from torch import nn

from unvanish.command.main import main
from unvanish.command.threads import WORK_OF_A_THREAD, Work, restored_threads, share_of_threads, threads_for, work_of

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
LARGE = ["--model.hidden_sizes=[512,512]", "--data.loading.batch_size=100"]


@pytest.fixture
def four(monkeypatch):
    """A process with four threads, of which its user has said nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


@pytest.fixture
def threads(monkeypatch):
    """The number of threads at the start of each training."""
    seen = []
    fit = L.Trainer.fit

    def noted(trainer, *args, **kwargs):
        seen.append(torch.get_num_threads())
        return fit(trainer, *args, **kwargs)

    monkeypatch.setattr(L.Trainer, "fit", noted)
    return seen


def test_the_work_is_that_of_matrix_products_and_convolutions_and_a_recurrence_s_steps_are_operations():
    mlp = nn.Sequential(nn.Linear(13, 7), nn.ReLU(), nn.Linear(7, 3))
    assert work_of(mlp, torch.zeros(5, 13)).flops == 2 * 5 * (13 * 7 + 7 * 3)
    convolution = nn.Conv2d(2, 3, 5, padding=2)
    assert work_of(convolution, torch.zeros(7, 2, 11, 13)) == Work(2 * 7 * 11 * 13 * 3 * 2 * 25, 1)
    for batch_first in (True, False):
        lstm = nn.LSTM(3, 5, batch_first=batch_first)
        work = work_of(lstm, torch.zeros((7, 17, 3) if batch_first else (17, 7, 3)))
        assert work.flops == 2 * 17 * 7 * (4 * 5 * 3 + 4 * 5 * 5)
        assert work.operations >= 17


def test_a_network_is_left_as_it_was_by_the_count():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    network[1].eval()
    state = torch.get_rng_state()
    work_of(network, torch.ones(5, 3))
    assert (network.training, network[1].training, int(network[0].num_batches_tracked)) == (True, False, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_are_as_many_as_there_is_work_for():
    for flops, available, threads in (
        (0, 4, 1),
        (1.99, 4, 1),
        (2, 4, 2),
        (2.99, 4, 2),
        (9, 4, 4),
        (9, 16, 9),
        (9, 1, 1),
    ):
        assert threads_for(Work(int(flops * WORK_OF_A_THREAD * 11), 11), available) == threads
    assert threads_for(Work(0, 0), 4) == 1


@pytest.mark.slow
def test_a_small_network_is_trained_by_one_thread_and_a_large_one_by_all_and_fit_says_so(
    workplace, four, threads, capsys
):
    for words, number in (([], 1), (LARGE, 2), ([*LARGE, "--model.hidden_sizes=[2048,2048]"], 4)):
        assert main(["fit", "-c", "mlp/wine", "--trainer.max_steps=1", "--trainer.limit_val_batches=0", *words]) == 0
        shown = capsys.readouterr().out
        assert threads.pop() == number
        assert torch.get_num_threads() == four
        assert (f"on {number} of 4 threads" in shown) == (number < four)
        assert shown.count(" threads") == (number < four)
    assert (
        main(["compare", "mlp/wine", "--set=model.activation=relu,tanh", "--trainer.max_epochs=1", "--out=side"]) == 0
    )
    assert " threads" not in capsys.readouterr().out
    for name in ("relu", "tanh"):  # in a process of its own
        log = workplace / f"side/activation={name}/seed0.log"
        assert "on 1 of 4 threads" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_who_has_said_how_many_threads_keeps_them(workplace, four, threads, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "4")
    assert main(["fit", "-c", "mlp/wine", "--trainer.max_epochs=1"]) == 0
    assert threads == [four]
    assert " threads" not in capsys.readouterr().out
    assert share_of_threads(2) == four


def test_jobs_share_the_threads(four):
    assert [share_of_threads(jobs) for jobs in (1, 2, 3, 4, 7)] == [4, 2, 1, 1, 1]


def test_a_network_that_cannot_be_called_with_what_the_data_says_keeps_all_threads(
    workplace, four, threads, monkeypatch
):
    (workplace / "own.py").write_text(
        "import torch\nfrom unvanish import ReferenceModule, Training\nclass Net(ReferenceModule):\n"
        "    def __init__(self, output_size: int, training: Training = Training()):\n"
        "        super().__init__(training)\n        self.layer = torch.nn.LazyLinear(output_size)\n"
        "        self.layer(torch.zeros(2, 13))\n"
        "    def forward(self, x):\n        if not x.any():\n            raise RuntimeError('no input')\n"
        "        return self.layer(x)\n"
    )
    (workplace / "own.yaml").write_text(
        "model: {class_path: own.Net}\ndata: {class_path: unvanish.Tabular, dataset: wine}\ntrainer: {max_epochs: 1}"
    )
    monkeypatch.syspath_prepend(workplace)
    assert main(["fit", "-c", "own.yaml", "--trust=own"]) == 0
    assert threads == [four]


def test_the_number_of_threads_is_set_back_after_an_error(four):
    def broken():
        with restored_threads():
            torch.set_num_threads(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert torch.get_num_threads() == four


@pytest.mark.parametrize(
    ("processors", "said", "spins"),
    [
        *((1, {}, "1000"), (2, {}, "1000"), (3, {}, None), (2, {"GOMP_SPINCOUNT": "7"}, "7")),
        *((2, {name: "2"}, None) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")),
    ],
)
def test_threads_wait_briefly_on_few_processors_where_the_user_has_said_nothing(processors, said, spins):
    code = (
        "import os, sys\n"
        f"os.sched_getaffinity = lambda _: range({processors})\n"
        "from unvanish.command.main import main\nmain(['recipes'])\n"
        "assert 'torch' not in sys.modules\n"
        "print('spins', os.environ.get('GOMP_SPINCOUNT'))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | said
    shown = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert shown.stdout.splitlines()[-1] == f"spins {spins}"
