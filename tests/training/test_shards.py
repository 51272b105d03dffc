"""The checkpoint of a sharded network, by one process; several are in tests/command/test_processes.py."""

import errno
import shutil

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from unvanish import extras
from unvanish.command.checkpoint_file import CheckpointFiles, newest_good, read
from unvanish.command.checkpoints import load_checkpoint, load_weights
from unvanish.command.errors import WrongInputError
from unvanish.command.main import main
from unvanish.training import shards


@pytest.fixture
def network():
    """Two layers, sharded over the one process of a group."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
        with torch.no_grad():
            for i, weight in enumerate(network.parameters()):
                weight.copy_(torch.arange(weight.numel()).reshape(weight.shape) + 100.0 * i)
        yield fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
    finally:
        dist.destroy_process_group()


def kept(network, path, factor=1.0):
    """Write a checkpoint of the network, times a factor, and return its weights as they are."""
    state = {name: weight.detach() * factor for name, weight in network.state_dict().items()}
    whole = {name: weight.full_tensor() for name, weight in state.items()}
    momentum = {"step": torch.tensor(7.0), "exp_avg": state["0.weight"] * 2}
    optimizer = {"state": {0: momentum}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    checkpoint = {"state_dict": state, "optimizer_states": [optimizer], "hyper_parameters": {}, "epoch": 3}
    shards.write(checkpoint, path)
    assert isinstance(momentum["exp_avg"], DTensor)  # as it was: the optimizer trains with it
    CheckpointFiles().save_checkpoint(checkpoint, path)
    return whole


def test_one_process_puts_a_checkpoint_together(network, tmp_path):
    path = tmp_path / "checkpoints/last.ckpt"
    whole = kept(network, path)
    index = read(path)
    assert all(weight.is_meta for weight in index["state_dict"].values())  # the file has none of them
    found = CheckpointFiles().load_checkpoint(path)
    torch.testing.assert_close(found["state_dict"], whole, rtol=0, atol=0)
    (optimizer,) = found["optimizer_states"]
    torch.testing.assert_close(optimizer["state"][0]["exp_avg"], 2 * whole["0.weight"], rtol=0, atol=0)
    assert (optimizer["state"][0]["step"], optimizer["param_groups"][0]["lr"], found["epoch"]) == (7, 0.1, 3)
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    other.hparams = {}
    with pytest.raises(WrongInputError, match=r"0\.weight is \(5, 3\) there and \(4, 3\) here"):
        load_weights(path, other)


def test_tensors_are_read_into_the_shards_of_a_network_or_shared_out(network, tmp_path):
    path = tmp_path / "last.ckpt"
    whole = kept(network, path)
    live = {f"state_dict.{name}": weight.detach() for name, weight in network.state_dict().items()}
    live["optimizer_states.0.state.0.exp_avg"] = live["state_dict.0.weight"]
    live["optimizer_states.0.state.0.step"] = live["state_dict.0.weight"]
    for is_whole in (False, True):
        saved = CheckpointFiles().load_checkpoint(path) if is_whole else read(path)
        shards.restore(saved, live, path)
        assert all(isinstance(weight, DTensor) for weight in saved["state_dict"].values())
        found = {name: weight.full_tensor() for name, weight in saved["state_dict"].items()}
        torch.testing.assert_close(found, whole, rtol=0, atol=0)
        state = saved["optimizer_states"][0]["state"][0]
        torch.testing.assert_close(state["exp_avg"].full_tensor(), 2 * whole["0.weight"], rtol=0, atol=0)
        assert state["step"] == 7
    with pytest.raises(ValueError, match=r"last\.ckpt: its state_dict\.0\.weight does not fit"):
        shards.restore(read(path), {"state_dict.0.weight": live["state_dict.1.weight"]}, path)


def test_the_one_before_is_there_until_the_next_is_whole(network, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    first = kept(network, path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "shard")

    with monkeypatch.context() as patched:
        patched.setattr(HuggingFaceStorageWriter, "write_data", full)
        with pytest.raises(OSError, match="No space left") as error:
            kept(network, path, 2.0)
    assert error.value.errno == errno.ENOSPC
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "last.shards0"]
    with monkeypatch.context() as patched:  # killed when the shards are there and their file is not
        patched.setattr(CheckpointFiles, "save_checkpoint", lambda *_: None)
        kept(network, path, 2.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "last.shards0", "last.shards1"]
    torch.testing.assert_close(CheckpointFiles().load_checkpoint(path)["state_dict"], first, rtol=0, atol=0)
    third = kept(network, path, 3.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "last.shards2"]
    torch.testing.assert_close(CheckpointFiles().load_checkpoint(path)["state_dict"], third, rtol=0, atol=0)
    CheckpointFiles().save_checkpoint({"state_dict": {}}, path)  # a run that goes on without shards
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_shard_that_is_damaged_or_missing_is_a_line_that_names_the_newest_good_one(network, tmp_path):
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    kept(network, best)
    kept(network, last)
    (shard,) = (tmp_path / "last.shards0").iterdir()
    content = bytearray(shard.read_bytes())
    content[-3] ^= 4
    shard.write_bytes(content)
    told = f"{last} cannot be loaded: its shard {shard} is damaged: its checksum does not match; "
    with pytest.raises(WrongInputError) as error:
        load_checkpoint(last)
    assert str(error.value) == f"{told}the newest good one beside it is {best}: --ckpt_path {best}"
    assert newest_good(tmp_path, best) is None
    shard.unlink()
    with pytest.raises(WrongInputError, match=r"safetensors is missing; the folder has to stay beside it"):
        load_checkpoint(last)
    shutil.copytree(tmp_path / "best.shards0", tmp_path / "elsewhere/best.shards0")
    shutil.copy(best, tmp_path / "elsewhere")
    assert load_checkpoint(tmp_path / "elsewhere/best.ckpt")["epoch"] == 3


def test_without_safetensors_a_line_says_what_to_install(workplace, capsys, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(extras, "import_module", absent)
    assert (
        main(["fit", "mlp/wine", "--trainer.strategy=fsdp2", "--trainer.accelerator=cpu", "--trainer.devices=1"]) == 2
    )
    assert capsys.readouterr().err == (
        "unvanish: safetensors is not installed, which this needs: pip install 'unvanish[sharded]'\n"
    )
