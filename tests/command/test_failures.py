import traceback

import numpy as np
import pytest
import torch

from unvanish.command import failures
from unvanish.command import main as command
from unvanish.command.errors import FailedError, WrongInputError
from unvanish.command.main import main


def caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        error.__traceback__ = error.__traceback__.tb_next  # without this test, which is a user's file
        return error
    raise AssertionError("nothing was raised")


def compiled(source, folder, name, monkeypatch, **values):
    """A function in a file of a room."""
    space = dict(values)
    exec(compile(source, str(folder / name), "exec"), space)
    return space["f"]


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    library = tmp_path / "site-packages"
    monkeypatch.setattr(failures, "_OURS", tmp_path / "ours")
    return {
        "ours": tmp_path / "ours",
        "lightning": library / "lightning",
        "library": library,
        "user": tmp_path / "user",
    }


def made(rooms, room, statement, inner=None):
    return compiled(f"def f():\n    {statement}", rooms[room], "file.py", None, inner=inner, torch=torch, np=np)


@pytest.mark.parametrize(
    "statement",
    ["torch.empty(2**60)", "np.empty(2**50)", "raise MemoryError", "raise torch.OutOfMemoryError('on cuda')"],
)
@pytest.mark.parametrize("room", ["ours", "user", "lightning"])
def test_too_little_memory_is_a_line_wherever_it_lacks(rooms, room, statement):
    told = failures.foreseen(caught(made(rooms, room, statement)))
    assert isinstance(told, FailedError)
    assert str(told).startswith("there is too little memory: ")


def test_an_error_is_told_by_where_it_arose(rooms):
    divided = made(rooms, "lightning", "1 / 0")
    told = failures.foreseen(caught(made(rooms, "ours", "inner()", divided)))
    assert isinstance(told, WrongInputError)
    assert str(told) == "the trainer does not take this: ZeroDivisionError: division by zero"
    assert failures.foreseen(caught(made(rooms, "user", "1 / 0"))) is None
    assert failures.foreseen(caught(made(rooms, "ours", "1 / 0"))) is None
    in_user = made(rooms, "lightning", "inner()", made(rooms, "user", "1 / 0"))
    assert failures.foreseen(caught(in_user)) is None
    assert failures.foreseen(caught(made(rooms, "lightning", "inner()", made(rooms, "library", "1 / 0")))) is None
    lacks = made(rooms, "lightning", "import no_such_package.part")
    assert str(failures.foreseen(caught(lacks))) == "no_such_package is not installed: pip install no_such_package"
    assert failures.foreseen(caught(made(rooms, "user", "import no_such_package"))) is None


@pytest.mark.parametrize(
    ("file", "room"),
    [
        ("home/me/.local/lib/python3.11/site-packages/torch/nn/functional.py", "library"),  # pip install --user
        ("usr/lib/python3/dist-packages/torch/nn/functional.py", "library"),  # below a virtual environment, of Debian
        ("apps/lightning/2.5/lib/site-packages/lightning/fabric/fabric.py", "lightning"),  # of a cluster's modules
        ("home/me/lightning/networks.py", "user"),
    ],
)
def test_a_package_is_a_library_wherever_it_is_installed(tmp_path, file, room):
    assert failures._room(str(tmp_path / file)) == room


def test_a_bug_of_the_user_s_is_shown_with_his_frames_alone(rooms):
    error = caught(made(rooms, "ours", "inner()", made(rooms, "lightning", "inner()", made(rooms, "user", "1 / 0"))))
    assert failures.is_of_user(error)
    assert failures.shown(error, whole=False).splitlines() == [
        "Traceback (most recent call last):",
        "  ... 2 frames of unvanish and of libraries",
        f'  File "{rooms["user"]}/file.py", line 2, in f',
        "ZeroDivisionError: division by zero",
    ]
    assert failures.shown(error, whole=True) == "".join(traceback.format_exception(error))


def test_what_nobody_has_foreseen_is_a_line_and_a_traceback_where_it_is_asked_for(capsys, monkeypatch):
    def broken(*_):
        raise KeyError("a bug of ours")

    monkeypatch.setattr(command, "_recipes", broken)
    monkeypatch.setattr(failures, "_room", lambda name: "ours" if name == __file__ or "unvanish" in name else "library")
    assert main(["recipes", "show", "quickstart"]) == 1
    answer = capsys.readouterr().err
    assert answer.count("\n") == 1
    assert answer.startswith("unvanish: an error that unvanish did not foresee at test_failures.py:")
    assert "KeyError: 'a bug of ours'; --traceback shows where it arose" in answer
    assert main(["recipes", "show", "quickstart", "--traceback"]) == 1
    assert f'File "{__file__}"' in capsys.readouterr().err
