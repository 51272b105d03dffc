import ast
import subprocess
import sys

import pytest
import torch

from unvanish.command.main import main
from unvanish.exercises import EXERCISES, check, find
from unvanish.exercises.hints import LEVELS, hint, solution
from unvanish.exercises.stubs import load, solved, stub

RELU = "    raise NotImplementedError"


def test_the_names_are_chapter_and_letter():
    assert find("4b").function == "backward"
    assert find("backward").name == "4b"
    lasts = {exercise.chapter: exercise.name for exercise in EXERCISES.values()}
    assert [lasts[chapter] for chapter in (11, 12, 13)] == ["11g", "12j", "13i"]
    with pytest.raises(ValueError, match=r"unknown exercise '4z'"):
        find("4z")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda z: (z >= 0).double(), "is 1, where autograd has 0"),
        (lambda z: (z > 0).float(), "the derivative is of torch.float32, where torch.float64 is expected"),
        (lambda z: (z > 0).double().sum(), "the derivative has shape (), where autograd has (1,)"),
        (lambda z: None, "the derivative is None, where a tensor is expected"),
        (lambda z: 1 / 0, "raises ZeroDivisionError: division by zero, line"),
        (lambda z: (_ for _ in ()).throw(NotImplementedError), "not written yet"),
    ],
)
def test_what_differs_is_said_by_value_in_one_line(function, says):
    result = check("relu_derivative", function)
    assert not result
    assert says in repr(result)
    assert "\n" not in repr(result)


def test_a_right_function_is_right_however_it_is_written():
    result = check("5a", torch.special.expit)
    assert result
    assert repr(result) == "5a sigmoid: right"


def test_what_works_in_place_is_judged_by_what_it_returns():
    assert check("relu", lambda z: z.clamp_(min=0))
    assert "a is 0, where torch has" in check("relu", lambda z: z.zero_()).difference
    assert "theta" in check("sgd", lambda theta, g, eta: theta.sub_(g.zero_())).difference


def test_where_an_error_was_raised_is_said_in_whatever_folder(tmp_path):
    folder = tmp_path / "unvanish" / "exercises"
    folder.mkdir(parents=True)
    (folder / "exercise_5e.py").write_text("def relu(z):\n    return nothing\n")
    result = check("5e", load(find("5e"), folder))
    assert result.difference == "raises NameError: name 'nothing' is not defined, line 2 of exercise_5e.py"
    (folder / "exercise_5e.py").write_text("def relu(z, more):\n    return z\n")
    result = check("5e", load(find("5e"), folder))
    assert result.difference == "raises TypeError: relu() missing 1 required positional argument: 'more'"


def test_what_a_tuple_holds_is_told_by_its_place():
    result = check("layer_backward", lambda delta, a, w: (delta @ w, delta.T @ a, delta.sum(1)))
    assert "dL/db has shape" in result.difference


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.name)
def test_a_stub_has_the_formulas_docstring_and_nothing_of_its_answer(exercise):
    (own,) = [node for node in ast.parse(stub(exercise)).body if isinstance(node, ast.FunctionDef)]
    (formula,) = ast.parse(solution(exercise)).body
    assert ast.dump(own.args) == ast.dump(formula.args)
    assert ast.get_docstring(own) == ast.get_docstring(formula)
    assert [ast.unparse(statement) for statement in own.body[1:]] == ["raise NotImplementedError"]
    namespace = {}
    exec(compile(stub(exercise), "stub", "exec"), namespace)  # all that its head names is imported
    assert callable(namespace[exercise.function])


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.name)
def test_hints_never_hold_the_last_statement(exercise):
    last = ast.unparse(ast.parse(solution(exercise)).body[0].body[-1])
    hints = [hint(exercise, level) for level in range(1, LEVELS + 1)]
    assert all(hints)
    assert not any(last in words for words in hints)


def test_an_exercise_is_begun_checked_solved_and_kept(workplace, capsys):
    assert main(["exercise", "5e"]) == 0
    path = workplace / "exercises" / "exercise_5e.py"
    assert main(["exercise", "--check"]) == 1
    assert "5e relu: not written yet" in capsys.readouterr().out
    path.write_text(path.read_text().replace(RELU, "    return z.abs()"))
    assert main(["exercise", "--check", "relu"]) == 1
    assert "5e relu: a" in capsys.readouterr().out
    path.write_text(path.read_text().replace("    return z.abs()", "    return torch.clamp(z, min=0)"))
    assert main(["exercise", "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == ["5e relu: right", f"1 of {len(EXERCISES)} exercises are right"]
    assert solved() == {"5e"}
    assert main(["exercise"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line[:12] for line in lines if line.startswith("*")) == "* 5e   relu "
    path.write_text(path.read_text().replace("min=0", "min=1"))
    main(["exercise", "--check"])
    assert solved() == set()  # no longer


def test_hint_and_solution(capsys):
    assert main(["exercise", "5e", "--hint", "2"]) == 0
    assert capsys.readouterr().out == "It uses where, <=.\n"
    assert main(["exercise", "5e", "--solution"]) == 0
    assert "return torch.where(z <= 0, 0, z)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["5ee"], "unknown exercise '5ee'; did you mean '5e'?; `unvanish exercise` lists all 91"),
        (["5e", "--hint", "4"], "there are hints of level 1 to 3, not 4"),
        (["--hint"], "--hint and --solution are of one exercise"),
        (["--check"], "there is no exercise here to check"),
        (["--check", "5e"], "there is no exercises/exercise_5e.py; `unvanish exercise 5e` writes it"),
    ],
)
def test_wrong_input_is_one_line(workplace, capsys, words, says):
    assert main(["exercise", *words]) == 2
    found = capsys.readouterr().err
    assert says in " ".join(found.split())


def test_files_that_cannot_be_read_are_told(workplace, capsys):
    assert main(["exercise", "5e"]) == 0
    path = workplace / "exercises" / "exercise_5e.py"
    assert main(["exercise", "5e"]) == 2
    assert "is there already" in " ".join(capsys.readouterr().err.split())
    path.write_text("def relu(z:\n")
    assert main(["exercise", "--check"]) == 2
    assert "exercise_5e.py, line 1:" in " ".join(capsys.readouterr().err.split())
    path.write_text("x = 1\n")
    with pytest.raises(ValueError, match="has no function relu"):
        load(find("5e"))
    (workplace / "exercises" / "progress.json").write_text("[")
    with pytest.raises(ValueError, match="delete it"):
        solved()


@pytest.mark.slow
def test_without_hypothesis_the_extra_is_named():
    code = "import sys; sys.modules['hypothesis'] = None\nfrom unvanish.exercises import check\ncheck('5e', abs)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'unvanish[exercises]'" in found.stderr
