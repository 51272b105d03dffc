import pytest
import yaml

from unvanish.command import recipes
from unvanish.command.errors import WrongInputError
from unvanish.command.main import main
from unvanish.command.run_folder import MARKER, check_replaceable, emptied_run, new_folder, new_run, remove

SMALL = ["--model.hidden_sizes=[7]", "--trainer.max_epochs=1"]
BAD_NAMES = [
    *("", ".", "..", "a/../b", "/a", "a/", "a//b", "./a", "a/...", "~/a", "a b", "a\\b", "C:a", "a\nb", "a\n", "a\0b"),
    *(5, 1.5, True, None, ["a"], {"b": "a"}),
]


@pytest.fixture
def stranger(tmp_path_factory):
    """A folder with somebody's file in it, which must still be there at the end."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "thesis.txt").write_text("years of work")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert (folder / "thesis.txt").read_text() == "years of work"


def recipe(path, **keys):
    model = {"class_path": "unvanish.MLP", "hidden_sizes": [7]}
    data = {"class_path": "unvanish.Tabular", "dataset": "wine"}
    path.write_text(yaml.safe_dump({"model": model, "data": data, "trainer": {"max_epochs": 1}, **keys}))
    return path


def refused(capsys, *words):
    assert main(list(words)) == 2
    answer = capsys.readouterr().err
    assert answer.startswith("unvanish: ")
    assert answer.count("\n") == 1
    return answer


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_name_that_is_no_name_is_one_line_wherever_it_is_read_and_nothing_is_written(workplace, capsys, name):
    mine, good = recipe(workplace / "mine.yaml", name=name), recipe(workplace / "good.yaml")
    overlay = workplace / "over.yaml"
    overlay.write_text(yaml.safe_dump({"name": name}))
    before = sorted(workplace.rglob("*"))
    for words in (
        ["fit", "-c", str(mine)],
        ["fit", "-c", str(good), "-c", str(overlay)],
        ["test", "-c", str(mine)],
        ["compare", str(mine)],
        ["compare", str(good), str(mine), "--out=here"],
    ):
        assert "name is " in refused(capsys, *words)
    assert sorted(workplace.rglob("*")) == before


def test_a_date_for_a_name_is_the_text_that_was_written(workplace):
    path = recipe(workplace / "mine.yaml")
    path.write_text("name: 2024-01-31\n" + path.read_text())
    assert recipes.load([str(path)]).name == "2024-01-31"


def test_a_number_for_a_name_is_no_text(workplace, capsys):
    path = recipe(workplace / "mine.yaml")
    path.write_text("name: 2024\n" + path.read_text())
    assert "mine.yaml: name is 2024, which is no text; it is letters" in refused(capsys, "fit", "-c", str(path))


@pytest.mark.parametrize("name", ["mlp/digits", "a", "a.b,c=-1e-3+2/d_é", "-", ".a"])
def test_other_names_are_names(workplace, name):
    assert recipes.load([str(recipe(workplace / "mine.yaml", name=name))]).name == name


def test_an_overlay_s_name_is_over_the_recipe_s_and_a_base_s_is_that_of_its_own_runs(workplace):
    mine = recipe(workplace / "mine.yaml", name="first")
    (workplace / "over.yaml").write_text("name: second")
    loaded = recipes.load([str(mine), str(workplace / "over.yaml")])
    assert (loaded.name, "name" in loaded.config) == ("second", False)
    (workplace / "two.yaml").write_text("base: mine.yaml\nvariants: {a: {}}")
    (variant,) = recipes.variants(workplace / "two.yaml").values()
    assert (variant.name, "name" in variant.config) == ("two/a", False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"), [("my recipe (1).yaml", "my_recipe_1_"), ("...yaml", "_"), ("a=1,b.yaml", "a=1,b")]
)
def test_a_file_s_name_is_made_one(workplace, file, name):
    loaded = recipes.load([str(recipe(workplace / file))])
    assert loaded.name == name
    assert main(["compare", file, "--runs=kept"]) == 0
    assert (workplace / f"kept/{name}/1/{name}/seed0/result.json").is_file()


def test_a_grid_s_key_is_no_path(workplace, capsys, stranger):
    for key in (f"model.arguments.{stranger}", "model.arguments./../../x", "model.arguments.a//b"):
        assert "name is " in refused(capsys, "compare", "wrap/resnet18", f"--set={key}=3", "--out=here")
    (workplace / "empty.yaml").write_text("base: mlp/wine\nvariants: {'': {}}")
    assert "name is 'empty/'" in refused(capsys, "compare", "empty.yaml")


@pytest.mark.slow
def test_compare_removes_no_folder_that_no_run_has_made(workplace, capsys):
    folder = workplace / "here/mlp/wine/seed0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: mine")
    (folder / "result.json").write_text("{}")
    for jobs in ("1", "2"):
        words = ("compare", "mlp/iris", "mlp/wine", "--out=here", f"--jobs={jobs}", *SMALL)
        assert f"here/mlp/wine/seed0 holds no {MARKER}, so no run made it" in refused(capsys, *words)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "result.json"]
    assert not (workplace / "here/mlp/iris").exists()  # none was trained


def test_a_link_to_a_folder_is_not_followed(workplace, capsys, stranger):
    (workplace / "here/mlp/wine").mkdir(parents=True)
    (workplace / "here/mlp/wine/seed0").symlink_to(stranger)
    assert "seed0 is a link" in refused(capsys, "compare", "mlp/wine", "--out=here", *SMALL)
    (workplace / "here/mlp/wine/seed0").unlink()
    run = new_run(workplace / "runs")
    (run / "linked").symlink_to(stranger)
    (run / "file").symlink_to(stranger / "thesis.txt")
    emptied_run(run)
    assert [path.name for path in run.iterdir()] == [MARKER]
    (workplace / "link").symlink_to(run)
    remove(workplace / "link")
    with pytest.raises(WrongInputError, match="is a link"):
        emptied_run(workplace / "link")
    (workplace / "dangling").symlink_to(workplace / "nowhere")
    with pytest.raises(WrongInputError, match="is a link"):
        check_replaceable(workplace / "dangling")
    assert (run / MARKER).is_file()


def test_a_run_of_ours_is_emptied_and_an_empty_folder_is_nobody_s(workplace):
    run = new_run(workplace / "a/b")
    assert run == workplace / "a/b/1"
    (run / "checkpoints").mkdir()
    (run / "checkpoints/last.ckpt").write_text("half")
    (run / "events").write_text("half")
    for folder in (run, workplace / "new/one", new_folder(workplace / "a/b")):
        emptied_run(folder)
        assert [path.name for path in folder.iterdir()] == [MARKER]
        remove(folder)
        assert not folder.exists()
        remove(folder)


def test_a_file_in_the_place_of_a_run_is_left(workplace):
    (workplace / "f").write_text("mine")
    with pytest.raises(WrongInputError, match="cannot write the run: Not a directory"):
        emptied_run(workplace / "f")
    remove(workplace / "f")
    assert (workplace / "f").read_text() == "mine"


def test_a_further_process_of_a_run_makes_no_folder(workplace, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not new_run(workplace / "runs").exists()
    assert not (workplace / "runs").exists()


def test_what_was_refused_before_the_first_step_is_removed_with_its_own_folder_alone(workplace, capsys):
    kept = new_run(workplace / "runs/mlp/wine")
    (kept / "notes.txt").write_text("mine")
    assert "val_check_interval" in refused(capsys, "fit", "-c", "mlp/wine", "--trainer.val_check_interval=1000", *SMALL)
    assert [path.name for path in (workplace / "runs/mlp/wine").iterdir()] == ["1"]
    assert (kept / "notes.txt").is_file()


@pytest.mark.slow
def test_what_looks_like_a_number_to_python_alone_does_not_stop_a_fit(workplace, capsys):
    for name in ("²", "①", "x", "-3", "1.5"):
        (workplace / "runs/mlp/wine" / name / "checkpoints").mkdir(parents=True)
        (workplace / "runs/mlp/wine" / name / "checkpoints/best.ckpt").write_text("")
    (workplace / "runs/mlp/wine/7").mkdir()
    assert main(["fit", "-c", "mlp/wine", *SMALL]) == 0
    assert (workplace / "runs/mlp/wine/8/config.yaml").is_file()
    assert main(["test", "-c", "mlp/wine"]) == 0
    assert "runs/mlp/wine/8/checkpoints" in capsys.readouterr().out


def test_no_run_is_kept_within_another(workplace, capsys):
    inner = recipe(workplace / "inner.yaml", name="a/seed0")
    outer = recipe(workplace / "outer.yaml", name="a")
    answer = refused(capsys, "compare", str(inner), str(outer), "--out=here")
    assert "a/seed0 would be kept in the folder of another run" in answer
