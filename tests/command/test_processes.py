"""One training by several processes, however they are started."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from sklearn.datasets import load_wine

from unvanish import load
from unvanish.command.checkpoint_file import read
from unvanish.command.main import main
from unvanish.command.processes import is_first, started_already

WORDS = ["fit", "mlp/wine", "--trainer.accelerator=cpu", "--trainer.max_epochs=3", "--trainer.log_every_n_steps=1"]
WORDS += [
    "--trainer.limit_train_batches=6"
]  # the eighth is smaller, and is filled up to an equal number for each process
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not re.match("RANK|LOCAL_|WORLD|MASTER_|SLURM|TORCHELASTIC", name)
} | {"OMP_NUM_THREADS": "1", "STARTED_BY": f"test-{os.getpid()}"}


def by_lightning(count, words, strategy="ddp", **keywords):
    command = [sys.executable, "-m", "unvanish", *words, f"--trainer.devices={count}", f"--trainer.strategy={strategy}"]
    return [subprocess.Popen(command, env=ENVIRONMENT, **keywords)]


def by_torchrun(count, words, **keywords):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"]
    return [subprocess.Popen([*command, "unvanish", *words], env=ENVIRONMENT, **keywords)]


def by_slurm(count, words, **keywords):
    """As srun does on one machine."""
    job = {"SLURM_JOB_ID": str(10_000 + os.getpid()), "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": str(count)}
    job |= {
        "SLURM_NNODES": "1",
        "SLURM_NTASKS_PER_NODE": str(count),
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
    }
    tasks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(count)]
    command = [sys.executable, "-m", "unvanish", *words]
    environments = [ENVIRONMENT | job | task for task in tasks]
    return [subprocess.Popen(command, env=each, **keywords) for each in environments]


def started():
    """The processes of this test, the ids by rank; torchrun's own has none."""
    found = {}
    for number in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{number}/environ") as environment:
            variables = environment.read().split("\0")
            if f"STARTED_BY={ENVIRONMENT['STARTED_BY']}" in variables:
                ranks = [
                    v.partition("=")[2] for v in variables if v.startswith(("RANK=", "LOCAL_RANK=", "SLURM_PROCID="))
                ]
                with open(f"/proc/{number}/cmdline") as words:
                    is_launcher = "torch.distributed.run" in words.read()
                found["launcher" if is_launcher else int(ranks[0]) if ranks else 0] = int(number)
    return found


def ended(processes, timeout=240):
    """What they have printed; none is left behind."""
    try:
        return [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in started().values():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def curve(folder):
    """Each loss and score by its name and step."""
    with (folder / "metrics.csv").open() as file:
        rows = [*csv.DictReader(file)]
    names = [name for name in rows[0] if name.startswith(("train/", "val/"))]
    return {(name, row["step"]): float(row[name]) for row in rows for name in names if row[name]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process does with the whole batch: its folder."""
    folder = tmp_path_factory.mktemp("alone")
    assert main([*WORDS, "--data.loading.batch_size=16", f"--runs={folder}"]) == 0
    return folder / "mlp/wine/1"


@pytest.mark.slow
@pytest.mark.parametrize("start", [by_lightning, by_slurm])
def test_two_processes_train_what_one_with_the_whole_batch_does_in_one_folder(workplace, alone, start):
    train_as_one(start, 2, alone)


@pytest.mark.slow
def test_four_do_so_too_and_one_goes_on_with_what_they_have_begun(workplace, alone, capsys):
    config = train_as_one(by_torchrun, 4, alone) / "config.yaml"
    kept, words = config.read_text(), ["fit", str(config), "--trainer.max_epochs=4", "--trainer.devices=1", "--resume"]
    capsys.readouterr()
    assert main(words) == 2
    assert "with 16 samples a batch, over all processes, and would resume with 4: set" in capsys.readouterr().err
    assert config.read_text() == kept
    assert main([*words, "--data.loading.batch_size=16"]) == 0
    longer = [word.replace("max_epochs=3", "max_epochs=4") for word in WORDS]
    assert main([*longer, "--data.loading.batch_size=16", "--runs=longer"]) == 0
    assert curve(config.parent) == pytest.approx(curve(workplace / "longer/mlp/wine/1"), rel=1e-4)


def train_as_one(start, count, alone):
    """Train with processes that share out the batch, hold all that is kept to what one does, and return the folder."""
    processes = start(count, [*WORDS, f"--data.loading.batch_size={16 // count}"], stdout=subprocess.PIPE, text=True)
    shown = ended(processes)
    assert [process.returncode for process in processes] == [0] * len(processes)
    assert "".join(shown).count("kept in runs/mlp/wine/1") == 1
    assert os.listdir("runs/mlp/wine") == ["1"]
    run = Path("runs/mlp/wine/1")
    assert len(list(run.glob("events.*"))) == 1
    assert len(curve(alone)) > 3 * 6
    assert curve(run) == pytest.approx(curve(alone), rel=1e-4)
    reports = [json.loads((folder / "gradient_report.json").read_text()) for folder in (run, alone)]
    assert [report["steps"] for report in reports] == [18, 18]
    headers = [(folder / "metrics.csv").read_text().partition("\n")[0] for folder in (run, alone)]
    assert ["gradient/noise_scale" in header for header in headers] == [True, False]  # which takes batches to compare
    for mine, other in zip(*(report["layers"] for report in reports), strict=True):
        assert mine.pop("rank_drift") == {"start": 0.0, "end": 0.0}
        assert mine.keys() == other.keys() >= {"delta_rms", "activation_std", "update_ratio", "gradient_cosine"}
        for quantity in mine.keys() - {"name", "spread"}:  # samples are compared within a process
            for moment in ("start", "end"):
                assert mine[quantity][moment] == pytest.approx(other[quantity][moment], rel=1e-4), quantity
    return run


@pytest.mark.slow
@pytest.mark.timeout(600)  # five trainings, one after the other
def test_two_that_share_the_weights_do_so_too_and_one_four_and_one_without_shards_go_on(workplace, alone, capsys):
    run = Path("runs/mlp/wine/1")

    def train(count, epochs, batch_size, *words, strategy="fsdp2"):
        words = [*WORDS, f"--trainer.max_epochs={epochs}", f"--data.loading.batch_size={batch_size}", *words]
        (shown,) = ended(by_lightning(count, words, strategy, stdout=subprocess.PIPE, text=True))
        assert f"gradients after {6 * epochs} steps: healthy" in shown
        return shown, sorted(len([*path.iterdir()]) for path in run.glob("checkpoints/*.shards*"))

    shown, files = train(2, 3, 8)
    assert "sharded weights do not show the gradient of one micro-batch" in shown
    assert files == [2, 2]  # of best and last, a file each process
    assert all(weight.is_meta for weight in read(run / "checkpoints/last.ckpt")["state_dict"].values())
    assert curve(run) == pytest.approx(curve(alone), rel=1e-4)
    smaller = [*WORDS, "--trainer.max_epochs=4", "--data.loading.batch_size=4", "--resume"]
    (refused,) = by_lightning(2, smaller, "fsdp2", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "with 16 samples a batch, over all processes, and would resume with 8: set" in ended([refused])[0]
    assert refused.returncode == 2
    for verb in ("test", "predict"):
        assert main([verb, f"{run}/config.yaml"]) == 0
    assert main(["export", str(run), "--format=safetensors"]) == 0
    assert load(run).predict(load_wine(as_frame=True).frame[:3]).shape[0] == 3
    assert train(4, 4, 4, "--resume")[1][-1] == 4
    assert 1 in train(1, 5, 16, "--resume")[1]
    train(1, 6, 16, "--resume", strategy="auto")  # without shards
    assert not [*run.glob("checkpoints/last.shards*")]
    train(2, 7, 8, "--resume")
    assert main([*WORDS, "--trainer.max_epochs=7", "--data.loading.batch_size=16", "--runs=longer"]) == 0
    assert curve(run) == pytest.approx(curve(workplace / "longer/mlp/wine/1"), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("start", "victim"), [(by_lightning, 1), (by_torchrun, 0)])
def test_where_one_is_killed_the_others_end_and_say_which(workplace, start, victim):
    words = [*WORDS, "--trainer.max_epochs=100000", "--checkpoint-minutes=0.01", "--trainer.enable_progress_bar=false"]
    (process,) = start(3, words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 200
    while not (workplace / "runs/mlp/wine/1/checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(started()[victim], signal.SIGKILL)
    (shown,) = ended([process], timeout=60)
    assert process.returncode != 0
    assert re.search(rf"rank:? {victim}\b", shown), shown


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"])
def test_the_first_process_is_of_rank_zero_everywhere(monkeypatch, name):
    monkeypatch.setenv(name, "0")
    assert is_first()
    monkeypatch.setenv(name, "2")
    assert not is_first()


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({}, {}),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}, {"devices": 3, "num_nodes": 2}),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2"}, {"devices": 4, "num_nodes": 2}),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, {}),
        ({"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}, {}),
    ],
)
def test_what_has_been_started_already_is_not_started_again(monkeypatch, environment, devices):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert started_already() == devices
