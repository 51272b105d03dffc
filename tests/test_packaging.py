import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"torch": "pytorch", "jsonargparse[signatures]": "jsonargparse"}


def split(requirement):
    name, bound = re.fullmatch(r"([\w.\[\]-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name), bound


def of_extra(name):
    """The requirements of an extra, and of those that it names."""
    for requirement in PROJECT["optional-dependencies"][name]:
        inner = re.fullmatch(r"unvanish\[([a-z,]+)\]", requirement)
        yield from (one for part in inner[1].split(",") for one in of_extra(part)) if inner else [requirement]


def test_environment_yml_names_what_pyproject_names_with_the_same_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    found = dict(split(entry) for entry in environment if isinstance(entry, str))
    wanted = dict(map(split, [*PROJECT["dependencies"], *of_extra("test")]))
    assert found == wanted | {"python": PROJECT["requires-python"], "pip": ""}


def test_every_requirement_opens_with_the_lower_bound_that_make_minimum_reads():
    for requirement in [*PROJECT["dependencies"], *of_extra("test"), *of_extra("notebooks")]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z]+\])?>=[0-9.]+(,<\d+)?", requirement)


def test_torch_and_torchvision_have_no_upper_bound():
    bounds = dict(map(split, PROJECT["dependencies"]))
    assert all(re.fullmatch(r">=[\d.]+", bounds[name]) for name in ("pytorch", "torchvision"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked where the sources are not."""
    there = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", there], cwd=ROOT, check=True)
    (wheel,) = there.glob("*.whl")
    target = there / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel]
    subprocess.run(install, check=True)
    return target


def run(installed, workplace, *words):
    code = "import sys, unvanish; print(unvanish.__file__); import unvanish.__main__"
    command = [sys.executable, "-c", code, *words]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=workplace, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.startswith(str(installed))
    return done.stdout


@pytest.mark.slow
def test_the_wheel_brings_the_recipes(installed, workplace):
    listed = run(installed, workplace, "recipes", "list")
    files = {p.relative_to(ROOT / "recipes").with_suffix("").as_posix() for p in (ROOT / "recipes").rglob("*.yaml")}
    assert {line.split()[0] for line in listed.splitlines() if line.startswith("  ")} == files
    assert "quickstart" in files


@pytest.mark.slow
def test_the_wheel_trains_elsewhere(installed, workplace):
    run(installed, workplace, "fit", "-c", "quickstart", "--trainer.max_epochs=1")
    assert (workplace / "runs/quickstart/1/checkpoints/best.ckpt").is_file()


@pytest.mark.slow
def test_the_wheel_brings_the_series(installed):
    names = {path.name for path in (installed / "unvanish/data/bundled").iterdir()}
    assert names == {"co2.csv", "sunspots.csv", "SOURCES.md"}


def test_the_wheel_brings_the_page_and_the_tab(installed, workplace):
    parts = {path.name for path in (ROOT / "src/unvanish/page/static").iterdir()}
    assert {path.name for path in (installed / "unvanish/page/static").iterdir()} == parts > {"app.js", "style.css"}
    (points,) = installed.glob("unvanish-*.dist-info/entry_points.txt")
    assert "[tensorboard_plugins]\ngradients = unvanish.tensorboard_plugin.plugin:GradientsPlugin" in points.read_text()
