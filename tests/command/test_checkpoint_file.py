import errno
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from unvanish.command import checkpoint_file
from unvanish.command.checkpoint_file import has_checksum, newest_good, read, write
from unvanish.command.errors import WrongInputError
from unvanish.command.main import main
from unvanish.command.place import BATCH
from unvanish.gradients import Report

TRAIN = ["fit", "-c", "mlp/wine", "--model.hidden_sizes=[7]", "--trainer.max_epochs=2"]


def a_checkpoint(value=1.0):
    return {"state_dict": {"w": torch.full((3, 5), value)}, "hyper_parameters": {}, "epoch": 7}


def test_what_is_written_is_read_by_us_and_by_torch(tmp_path):
    path = tmp_path / "a.ckpt"
    write(a_checkpoint(2.5), path)
    assert has_checksum(path) is True
    for loaded in (read(path), torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)):
        assert loaded["epoch"] == 7
        assert torch.equal(loaded["state_dict"]["w"], torch.full((3, 5), 2.5))
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_every_changed_byte_is_refused_and_so_is_every_cut(tmp_path):
    path = tmp_path / "a.ckpt"
    write(a_checkpoint(), path)
    whole = path.read_bytes()
    bad = tmp_path / "bad.ckpt"
    marked = range(len(whole) - 84, len(whole) - 64)  # a damaged mark is none, and then torch decides
    for place in [*range(0, len(whole), 7), *marked]:
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
        if place in range(len(whole) - 80, len(whole) - 64):
            assert has_checksum(bad) is None
        else:
            with pytest.raises(WrongInputError, match=r"bad.ckpt is damaged: its checksum does not match"):
                read(bad)
    for length in range(0, len(whole) - 82, 11):
        bad.write_bytes(whole[:length])
        with pytest.raises(WrongInputError, match=r"bad.ckpt is not a checkpoint that can be loaded: [^\n]+$"):
            read(bad)


def test_one_of_another_program_has_no_checksum_and_is_read_all_the_same(tmp_path):
    torch.save(a_checkpoint(3.0), tmp_path / "theirs.ckpt")
    assert has_checksum(tmp_path / "theirs.ckpt") is None
    assert read(tmp_path / "theirs.ckpt")["epoch"] == 7


def test_the_newest_whole_one_beside_a_damaged_one_is_found(tmp_path):
    for number, name in enumerate(("old", "good", "broken", "asked")):
        write(a_checkpoint(number), tmp_path / f"{name}.ckpt")
        shutil.os.utime(tmp_path / f"{name}.ckpt", (number, number))
    (tmp_path / "broken.ckpt").write_bytes((tmp_path / "broken.ckpt").read_bytes()[:-1] + b"?")
    assert newest_good(tmp_path, tmp_path / "asked.ckpt") == tmp_path / "good.ckpt"
    assert newest_good(tmp_path / "nowhere", tmp_path) is None


def test_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    write(a_checkpoint(1.0), path)
    before = path.read_bytes()

    def full(self, block):
        self.error = OSError(errno.ENOSPC, "No space left on device")
        raise self.error

    monkeypatch.setattr(checkpoint_file._Hashed, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write(a_checkpoint(2.0), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_run_on_a_full_disk_ends_with_1_and_its_last_checkpoint_is_whole(workplace, capsys, monkeypatch):
    write_before, written = checkpoint_file.write, []

    def fills(checkpoint, path):
        written.append(checkpoint["global_step"])
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_before(checkpoint, path)

    monkeypatch.setattr(checkpoint_file, "write", fills)
    assert main([*TRAIN, "--checkpoint-minutes=0"]) == 1
    answer = capsys.readouterr().err
    assert answer.count("\n") == 1
    assert answer.startswith("unvanish: No space left on device: runs/mlp/wine/1/checkpoints/last.ckpt; ")
    assert answer.endswith("runs/mlp/wine/1/checkpoints/last.ckpt is of step 3\n")
    assert read(Path("runs/mlp/wine/1/checkpoints/last.ckpt"))["global_step"] == 3


def test_a_report_that_finds_no_room_is_1(workplace, capsys, monkeypatch):
    def full(self, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Report, "save", full)
    assert main(TRAIN) == 1
    assert "No space left on device: runs/mlp/wine/1/gradient_report.json; " in capsys.readouterr().err


def test_a_run_whose_folder_is_removed_says_so(workplace, capsys, monkeypatch):
    def vanishes(checkpoint, path):
        shutil.rmtree(path.parents[1])
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(checkpoint_file, "write", vanishes)
    assert main([*TRAIN, "--checkpoint-minutes=0", "--no-gradients"]) == 1
    assert "unvanish: runs/mlp/wine/1 is gone" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of runs, with one of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    assert main([*TRAIN, "--trainer.max_epochs=1", f"--runs={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(run):
    """Its checkpoint."""
    return torch.load(run / "mlp/wine/1/checkpoints/last.ckpt", weights_only=True)


def without(*keys):
    return lambda state: [state.pop(key) for key in keys]


def put(**values):
    return lambda state: state.update(values)


class Foreign:
    """Something that torch would have to run."""


ODD = {
    "without an optimizer": (without("optimizer_states"), "optimizer_states is missing"),
    "without a scheduler": (without("lr_schedulers"), "lr_schedulers is missing"),
    "without a version": (without("pytorch-lightning_version"), "pytorch-lightning_version is missing"),
    "without loops": (without("loops"), "loops is missing"),
    "loops of another kind": (put(loops={"fit_loop": 3}), "cannot be resumed: loops.fit_loop is of type int"),
    "arguments as a list": (put(hyper_parameters=[1, 2]), "hyper_parameters is of type list"),
    "whole weights": (
        lambda state: state["state_dict"].update({"output.weight": state["state_dict"]["output.weight"].int()}),
        "is of another architecture: output.weight is torch.int32 there and torch.float32 here",
    ),
    "sparse weights": (
        lambda state: state["state_dict"].update({"output.weight": state["state_dict"]["output.weight"].to_sparse()}),
        "is not a checkpoint of a network: Error(s) in loading state_dict for MLP: ",
    ),
    "numbers for weights": (put(state_dict={"hidden.0.linear.weight": 3.0}), "state_dict is of type dict"),
    "weights by number": (put(state_dict={0: torch.ones(3)}), "state_dict is of type dict"),
    "no table": (None, "it holds list, not a dict"),
    "code": (put(extra=Foreign()), "Foreign, which is not plain data"),
    "an empty optimizer": (put(optimizer_states=[{}]), "cannot be resumed: optimizer_states[0].state is missing"),
    "an optimizer of another": (put(optimizer_states=[{"state": {}, "param_groups": []}]), "cannot be resumed: "),
    "an odd group": (
        put(optimizer_states=[{"state": {}, "param_groups": [{"params": 3}]}]),
        "cannot be resumed: optimizer_states[0].param_groups[0].params is of type int",
    ),
    "a bare loop": (
        put(loops={"fit_loop": {"state_dict": {}}}),
        "cannot be resumed: loops.fit_loop.",
    ),
    "a negative step": (put(global_step=-7), "cannot be resumed: global_step is -7"),
    "a step that is no number": (put(global_step=True), "cannot be resumed: global_step is of type bool"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_an_odd_checkpoint_is_one_line_and_leaves_no_run_behind(workplace, capsys, trained, name):
    change, expected = ODD[name]
    state: object = {key: value for key, value in deepcopy(trained).items() if key != "unvanish"}
    if change is None:
        state = [1, 2, 3]
    else:
        change(state)
    torch.save(state, "odd.ckpt")
    assert main([*TRAIN, "--ckpt_path=odd.ckpt"]) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("unvanish: odd.ckpt ")
    assert answer.count("\n") == 1
    assert expected in answer
    assert "weights_only" not in answer
    assert "\x1b" not in answer
    assert not list(workplace.glob("runs/mlp/wine/*"))


KEPT_ODD = {
    f"no {key}": (lambda state, key=key: state["unvanish"].pop(key), f"cannot be resumed: unvanish.{key} is missing")
    for key in ("place", "batches_that_stepped", "random", "identity", "logs")
} | {
    "an odd place": (lambda state: state["unvanish"].update(place="here"), "resumed: unvanish.place is 'here'"),
    "no curve": (lambda state: state["callbacks"].pop("ResultWriter"), "callbacks.ResultWriter is missing"),
    "odd generators": (lambda state: state["unvanish"].update(random=[3]), "unvanish.random[0] is of type int"),
}
#: What a network that is tested needs as well.
ALL_NEED = (
    "another architecture",
    "of a network",
    "hyper_parameters",
    "state_dict",
    "it holds ",
    "which is not plain data",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ODD, *KEPT_ODD])
def test_an_odd_checkpoint_in_a_run_is_one_line_for_each_command(workplace, capsys, run, name):
    change, expected = (ODD | KEPT_ODD)[name]
    shutil.copytree(run, "runs")
    state: object = read(run / "mlp/wine/1/checkpoints/last.ckpt")
    if change is None:
        state = [1, 2, 3]
    else:
        change(state)
    folder = Path("runs/mlp/wine/1")
    for path in folder.glob("checkpoints/*.ckpt"):
        write(state, path)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    code = 2 if any(words in expected for words in ALL_NEED) else 0
    others = [["test", *TRAIN[1:]], ["predict", *TRAIN[1:], "--out=p.csv"]]
    others = others if code or name == "without an optimizer" else []
    for words, wanted in (([*TRAIN, "--resume"], 2), *((words, code) for words in others)):
        capsys.readouterr()
        assert main(words) == wanted
        answer = capsys.readouterr().err
        assert (expected in answer) == (answer.count("unvanish: runs/mlp/wine/1/checkpoints/") == 1) == (wanted == 2)
        assert answer.count("\n") == wanted / 2
        if wanted and words[0] == "fit" and not expected.endswith("resumed: "):  # before anything is restored
            assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_a_damaged_checkpoint_of_a_run_names_the_good_one_which_can_be_gone_on_from(workplace, capsys):
    assert main(TRAIN) == 0
    last = Path("runs/mlp/wine/1/checkpoints/last.ckpt")
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    capsys.readouterr()
    words = [*TRAIN, "--trainer.max_epochs=3", "--resume"]
    assert main(words) == 2
    good = "runs/mlp/wine/1/checkpoints/best.ckpt"
    answer = f"unvanish: {last} is damaged: its checksum does not match; the newest good one beside it is {good}: "
    assert capsys.readouterr().err == f"{answer}--ckpt_path {good}\n"
    assert main([*words, f"--ckpt_path={good}"]) == 0
    assert read(last)["global_step"] == 24
    assert read(last)["unvanish"]["place"] != BATCH
