import re

import pytest
import yaml

from unvanish.command import recipes
from unvanish.command.errors import WrongInputError
from unvanish.command.experiment import Experiment
from unvanish.data import Tabular

FILES = sorted(recipes.packaged().rglob("*.yaml"))
# Data that is not in a package: what torchvision downloads, and files of the user, with the options that name them.
DOWNLOADED = {"mnist", "cifar10"}
OWN_FILES = {
    "mlp/arrays": ["--data.path=arrays"],
    "mlp/csv": ["--data.path=table.csv", "--data.target=y"],
    "cnn/image_folder": ["--data.path=images"],
    "recurrent/series_csv": ["--data.path=table.csv", "--data.targets=[y]"],
    "recurrent/text_csv": ["--data.path=table.csv"],
    "transformer/text_csv": ["--data.path=table.csv"],
}
OVERLAYS = tuple(f"hardware/{name}" for name in ("cpu", "ddp", "fsdp2", "gpu", "gpu_bf16", "slurm"))


def of_file(path):
    """A recipe, or all variants of a comparison."""
    name = recipes.name_of(path)
    return [*recipes.variants(path).values()] if recipes.is_comparison(recipes.read(path)) else [recipes.load([name])]


BY_FILE = [of_file(path) for path in FILES if recipes.name_of(path) not in OVERLAYS]
RECIPES = [recipe for found in BY_FILE for recipe in found]
FAMILIES = [*{recipe.name.partition("/")[0]: recipe.name for recipe, *others in BY_FILE if not others}.values()]


def test_a_copied_comparison_is_the_same(tmp_path):
    for path in FILES:
        if recipes.is_comparison(recipes.read(path)):
            copy = tmp_path / path.name
            copy.write_text(path.read_text())
            configs = [[recipe.config for recipe in recipes.variants(file).values()] for file in (path, copy)]
            assert configs[0] == configs[1]


def test_there_are_recipes_and_every_file_is_one_of_them():
    assert len(FILES) >= 9
    assert len(recipes.names()) == len(FILES)
    assert {recipes.name_of(path) for path in FILES} >= {*OWN_FILES, *OVERLAYS}
    assert {recipe.config["data"].get("dataset") for recipe in RECIPES} > DOWNLOADED
    assert len(RECIPES) >= len(FILES) - len(OVERLAYS)


@pytest.mark.parametrize("path", [path for path in FILES if recipes.name_of(path) not in OVERLAYS], ids=recipes.name_of)
def test_a_recipe_opens_with_its_command_the_result_to_expect_and_its_time(path):
    head = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        head.append(line)
    command, *_ = head
    name = recipes.name_of(path)
    verb = "compare" if recipes.is_comparison(recipes.read(path)) else "fit -c"
    assert command.startswith(f"# unvanish {verb} {name}")
    text = "\n".join(head)
    assert re.search(r"^# expect: (.*\d|not yet measured)", text, re.MULTILINE)
    assert re.search(r"^# time: (.*\d+ s|not yet measured)", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [one for one, *_ in BY_FILE], ids=lambda recipe: recipe.name)
def test_the_resolved_form_of_a_recipe_is_a_recipe_that_says_the_same(recipe, workplace):
    experiment = Experiment.parse(recipe, OWN_FILES.get(recipe.name, []))
    resolved = workplace / "resolved.yaml"
    resolved.write_text(experiment.resolved())
    again = Experiment.parse(recipes.load([str(resolved)]), [])
    assert again.resolved() == experiment.resolved()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_builds(recipe, workplace):
    experiment = Experiment.parse(recipe, OWN_FILES.get(recipe.name, []))
    if recipe.name not in OWN_FILES and recipe.config["data"].get("dataset") not in DOWNLOADED:
        built = experiment.build()
        x, y = next(iter(built.data.train_dataloader()))
        assert built.model.training_loss(built.model(x), y).isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_says_on_what_any_recipe_runs(overlay):
    assert recipes.locate(overlay).read_text().startswith(f"# unvanish fit -c RECIPE -c {overlay}\n")
    keys = recipes.flat(recipes.load([overlay]).config)
    assert keys
    assert len(FAMILIES) >= 6
    for name in FAMILIES:
        experiment = Experiment.parse(recipes.load([name, overlay]), OWN_FILES.get(name, []))
        found = recipes.flat(experiment.arguments.as_dict())
        assert {key: str(found[key]) for key in keys} == {key: str(value) for key, value in keys.items()}


def test_variants_differ_from_their_base_by_what_the_comparison_says():
    path = recipes.locate("vanishing/mlp")
    base = recipes.flat(recipes.load(["mlp/deep_sigmoid"]).config)
    changes = recipes.read(path)["variants"]
    for name, recipe in recipes.variants(path).items():
        assert dict(recipes.flat(recipe.config).items() - base.items()) == changes[name]


def write(path, text):
    path.write_text(text)
    return str(path)


def test_overlays_change_single_keys_and_another_class_keeps_no_arguments(workplace):
    base = write(
        workplace / "a.yaml", "model: {class_path: x.A, width: 3, training: {optimizer: {name: sgd}}}\ndata: {b: 1}"
    )
    over = write(workplace / "b.yaml", "model: {width: 5, training: {optimizer: {learning_rate: 1e-3}}}")
    other = write(workplace / "c.yaml", "model: {class_path: x.B}")
    optimizer = {"name": "sgd", "learning_rate": 0.001}
    merged = {"class_path": "x.A", "width": 5, "training": {"optimizer": optimizer}}
    assert recipes.load([base, over]).config == {"model": merged, "data": {"b": 1}}
    assert recipes.load([base, over, other]).config["model"] == {"class_path": "x.B"}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("-2E5", -2e5), ("1.5e2", 150.0), ("1e", "1e"), ("e3", "e3")]
)
def test_numbers_without_a_dot_are_numbers(workplace, text, value):
    assert recipes.read(recipes.locate(write(workplace / "n.yaml", f"a: {text}"))) == {"a": value}


def test_a_recipe_is_found_by_file_and_by_packaged_name(workplace):
    assert recipes.load([write(workplace / "mine.yaml", "a: 1")]).name == "mine"
    assert recipes.load(["mlp/digits"]).name == recipes.load([str(recipes.packaged() / "mlp/digits.yaml")]).name


def test_the_batch_file_of_slurm_is_copied_with_its_recipe(workplace):
    recipes.copy("hardware/slurm", workplace / "ours.yaml")
    assert (workplace / "ours.sbatch").read_text().startswith("#!/bin/bash\n# sbatch slurm.sbatch RECIPE")
    (workplace / "ours.yaml").unlink()
    with pytest.raises(WrongInputError, match=r"ours\.sbatch exists already"):
        recipes.copy("hardware/slurm", workplace / "ours.yaml")
    assert not (workplace / "ours.yaml").exists()


def test_copy_makes_a_file_to_change_and_overwrites_none(workplace):
    copied = recipes.copy("mlp/digits", workplace)
    assert yaml.safe_load(copied.read_text())["data"]["dataset"] == "digits"
    with pytest.raises(WrongInputError, match=r"digits\.yaml exists already"):
        recipes.copy("mlp/digits", workplace)


def test_dotted_keys_are_nested_ones_and_a_recipe_may_say_its_name(workplace):
    path = write(
        workplace / "d.yaml", "name: a/b\nmodel.class_path: x.A\nmodel: {width: 3}\nmodel.training.task: binary"
    )
    recipe = recipes.load([path])
    assert recipe.name == "a/b"
    assert recipe.config == {"model": {"class_path": "x.A", "width": 3, "training": {"task": "binary"}}}


@pytest.mark.parametrize("value", ["5", "1e3", "true", "{a}", "-x", "a b", "=", "None"])
def test_text_that_looks_like_something_else_reaches_the_data_as_text(workplace, value):
    recipe = recipes.load(["mlp/csv"])
    recipe.config["data"]["target"] = value
    assert Experiment.parse(recipe, ["--data.path=t.csv"]).arguments.data.target == value


def test_a_name_in_brackets_is_given_as_a_list_of_one(workplace):
    recipe = recipes.load(["mlp/csv"])
    recipe.config["data"]["target"] = ["[kWh]"]
    assert Experiment.parse(recipe, ["--data.path=t.csv"]).arguments.data.target == ["[kWh]"]
    (workplace / "t.csv").write_text("a,[kWh]\n" + "".join(f"{row},{row % 7}\n" for row in range(40)))
    with pytest.raises(ValueError, match=r"t\.csv: .*'kWh'.*\[kWh\]"):
        _ = Tabular(path="t.csv", target=["kWh"]).splits
    assert Tabular(path="t.csv", target=["[kWh]"]).output_size == 1


def test_an_empty_group_is_no_argument(workplace):
    path = write(
        workplace / "e.yaml",
        "model: {class_path: unvanish.MLP, hidden_sizes: 3}\ndata: {class_path: unvanish.Images}\ntrainer:\n",
    )
    assert Experiment.parse(recipes.load([path]), []).arguments.trainer.max_epochs is None


def test_data_without_arguments_is_resolved_too(workplace, monkeypatch):
    write(
        workplace / "fixed.py",
        "import lightning\nclass Data(lightning.LightningDataModule):\n"
        "    task, input_shape, output_size = 'binary', (3,), 1\n",
    )
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setenv("UNVANISH_TRUST", "fixed")
    path = write(
        workplace / "f.yaml", "model: {class_path: unvanish.MLP, hidden_sizes: 3}\ndata: {class_path: fixed.Data}"
    )
    assert yaml.safe_load(Experiment.parse(recipes.load([path]), []).resolved())["data"] == {"class_path": "fixed.Data"}


def test_a_network_s_own_dict_arrives_as_it_was_written(workplace):
    text = "model: {class_path: unvanish.networks.Wrap, module: timm.f, arguments: {first: {a: {b: 1}}, second: 2}}\n"
    path = write(workplace / "f.yaml", text + "data: {class_path: unvanish.Images}")
    typed = Experiment.parse(recipes.load([path]), ["--model.arguments.second=3"]).arguments
    assert typed.model.arguments == {"first": {"a": {"b": 1}}, "second": 3}
