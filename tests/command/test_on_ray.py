import json
import sys
import threading
import time

import pytest

from unvanish.command.compare.on_ray import _shares
from unvanish.command.main import main
from unvanish.command.result import Result

SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=2"]


def test_a_run_has_its_share_of_the_processors_or_of_a_gpu():
    def node(alive=True, **resources):
        return {"Alive": alive, "Resources": resources}

    two = [node(CPU=8.0), node(CPU=4.0), node(alive=False, CPU=64.0)]
    assert _shares(two, None, takes_gpu=True) == (1, 0)
    assert _shares(two, 6, takes_gpu=True) == (2, 0)
    assert _shares(two, 1, takes_gpu=True) == (4, 0)  # what the smallest machine has
    gpus = [node(CPU=16.0, GPU=2.0)]
    assert _shares(gpus, None, takes_gpu=True) == (1, 1)
    assert _shares(gpus, 4, takes_gpu=True) == (4, 0.5)
    assert _shares(gpus, 1, takes_gpu=True) == (16, 1)
    assert _shares(gpus, 4, takes_gpu=False) == (4, 0)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--launcher=ray"], "--launcher ray needs Ray: pip install 'unvanish[ray]'"),
        (["--address=here:6379"], "--address here:6379 is of a Ray cluster: say --launcher ray as well"),
        (["--launcher=slurm"], "argument --launcher: invalid choice: 'slurm' (choose from 'local', 'ray')"),
    ],
)
def test_what_ray_lacks_is_said_before_a_folder_is_made(workplace, capsys, monkeypatch, words, answer):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["compare", "vanishing/mlp", *words]) == 2
    assert capsys.readouterr().err == f"unvanish: {answer}\n"
    assert not (workplace / "runs").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_worker_that_dies_is_replaced_once_and_then_its_run_is_a_row_that_says_so(workplace, capsys):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    (workplace / "deadly_on_ray.py").write_text(
        "import os, pathlib\nimport lightning as L\nclass Kill(L.Callback):\n"
        "    def __init__(self, times: int):\n        self.times = times\n"
        "    def on_train_epoch_end(self, trainer, pl_module):\n"
        "        mark = pathlib.Path(trainer.default_root_dir).with_suffix('.killed')\n"
        "        killed = len(mark.read_text()) if mark.exists() else 0\n"
        "        if trainer.current_epoch == 1 and killed < self.times:\n"
        "            mark.write_text('x' * (killed + 1))\n            os.kill(os.getpid(), 9)\n"
    )
    kill = "{trainer.callbacks: {class_path: deadly_on_ray.Kill, init_args: {times: %d}}}"
    (workplace / "k.yaml").write_text(f"base: mlp/wine\nvariants: {{once: {kill % 1}, always: {kill % 9}}}\n")
    assert main(["compare", "k.yaml", "--launcher=ray", "--jobs=2", "--out=here", "--trust=deadly_on_ray", *SMALL]) == 1
    told = capsys.readouterr()
    if "Ray does not start" in told.err and "timed out" in told.err:  # what starts it has 15 seconds for its imports
        pytest.skip("this machine is too loaded for Ray, whose limits are its own")
    assert "always, seed 0: failed: its process was killed by signal 9" in told.out
    once, always = json.loads((workplace / "here/comparison.json").read_text())["variants"]
    assert (workplace / "here/once/seed0.killed").read_text() == "x"
    assert (workplace / "here/always/seed0.killed").read_text() == "xx"
    assert main(["fit", "mlp/wine", "--test", *SMALL]) == 0
    never = Result.read(workplace / "runs/mlp/wine/1")
    assert once["test_mean"] == never.scores["test/accuracy"] > 0
    assert once["runs"][0]["curve"][-1]["val/loss"] == never.curve[-1]["val/loss"]
    assert always["test_mean"] == "nan"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_machine_of_a_cluster_that_dies_leaves_its_run_to_another(workplace, capsys):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    (workplace / "held_on_ray.py").write_text(
        "import pathlib, time\nimport lightning as L\nimport ray\nclass Hold(L.Callback):\n"
        "    def on_train_epoch_end(self, trainer, pl_module):\n"
        "        here = ray.get_runtime_context().get_node_id()\n"
        "        folder = pathlib.Path(trainer.default_root_dir)\n"
        "        if trainer.current_epoch == 0:\n"
        "            with folder.with_suffix('.nodes').open('a') as file:\n"
        "                file.write(here + '\\n')\n"
        "        while trainer.current_epoch == 1 and here == (folder.parents[1] / 'doomed').read_text():\n"
        "            (folder.parents[1] / 'held').touch()\n            time.sleep(0.1)\n"
    )
    held = "{trainer.callbacks: [{class_path: held_on_ray.Hold}], seed: %d}"
    (workplace / "k.yaml").write_text(f"base: mlp/wine\nvariants: {{first: {held % 0}, second: {held % 1}}}\n")
    try:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    except Exception as error:  # what starts it has 15 seconds for its imports
        pytest.skip(f"this machine is too loaded for Ray, whose limits are its own: {error}")
    try:
        second = cluster.add_node(num_cpus=1)
        (workplace / "here").mkdir()
        (workplace / "here/doomed").write_text(second.node_id)

        def kill():
            deadline = time.monotonic() + 200
            while not (workplace / "here/held").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        words = ["k.yaml", "--launcher=ray", "--jobs=2", f"--address={cluster.address}", "--trust=held_on_ray"]
        assert main(["compare", *words, "--out=here", *SMALL]) == 0
        killer.join()
    finally:
        cluster.shutdown()
    assert (workplace / "here/held").exists()
    assert second.node_id in "".join(path.read_text() for path in (workplace / "here").glob("*/*.nodes"))
    found = json.loads((workplace / "here/comparison.json").read_text())["variants"]
    for seed, variant in enumerate(found):
        assert main(["fit", "mlp/wine", "--test", f"--seed={seed}", *SMALL]) == 0
        assert variant["test_mean"] == Result.read(workplace / f"runs/mlp/wine/{seed + 1}").scores["test/accuracy"]
