import json

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
