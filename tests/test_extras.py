import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement

from unvanish import extras
from unvanish.command.main import main
from unvanish.data import table_file
from unvanish.data.table_file import read_table
from unvanish.data.tokenizers import _splitter
from unvanish.extras import EXTRAS, MissingExtraError

HELD = "av", "pandas", "pyarrow", "sklearn", "statsmodels", "tokenizers", "torchvision.datasets"
LOOK = f"""
import sys, unvanish, unvanish.data
print([name for name in ("torch", *{HELD}) if name in sys.modules])
digits = unvanish.Images("digits")
print([name for name in {HELD} if name in sys.modules])
"""


@pytest.mark.slow
def test_images_wait_for_no_library_of_other_data():
    before = "import sys, torch, lightning\nhad = set(sys.modules)\n"
    code = before + LOOK.replace("in sys.modules", "in set(sys.modules) - had")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["[]", "[]"]


def test_extras_are_those_of_the_package():
    path = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    declared = project["optional-dependencies"]
    assert {Requirement(*declared[name]).name: name for name in EXTRAS.values()} == EXTRAS
    assert not set(EXTRAS) & {Requirement(line).name for line in project["dependencies"]}


def without(missing):
    """An import that does not find a library; it is there for others, which expect it."""

    def find(name):
        if name == missing:
            raise ModuleNotFoundError(name)
        return import_module(name)

    return find


@pytest.mark.slow
def test_data_that_need_an_extra_say_what_to_install(monkeypatch, workplace, capsys):
    texts = ["a fine day", "no day at all"] * 30
    pd.DataFrame({"text": texts, "label": ["good", "bad"] * 30}).to_csv("t.csv", index=False)
    pd.DataFrame({"a": range(60), "y": [0, 1] * 30}).to_parquet("t.parquet")
    for name in ("a", "b"):
        (workplace / "clips" / name).mkdir(parents=True)
        for number in range(9):
            (workplace / "clips" / name / f"{number}.mp4").write_bytes(b"x")
    _splitter.cache_clear()
    for library, words in {
        "tokenizers": ["transformer/text_csv", "--data.path=t.csv", "--data.text=text", "--data.label=label"],
        "pyarrow": ["mlp/csv", "--data.path=t.parquet", "--data.target=y"],
        "av": ["cnn/image_folder", "--data.path=clips", "--data.frames=8"],
    }.items():
        monkeypatch.setattr(extras, "import_module", without(library))
        assert main(["fit", *words]) == 2
        said = f"{library} is not installed, which this needs: pip install 'unvanish[{EXTRAS[library]}]'"
        assert capsys.readouterr().err == f"unvanish: {said}\n"


def test_without_pyarrow_all_tables_but_parquet_are_read(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    (tmp_path / "t.parquet").write_bytes(b"")
    read_table(str(tmp_path / "t.csv"))  # pandas' own strings are of pyarrow, where it has found it
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    read = runpy.run_path(table_file.__file__)  # as at its first import
    assert read["read_table"](str(tmp_path / "t.csv")).to_dict("list") == {"a": [1], "y": [2]}
    assert read["column_names"](str(tmp_path / "t.csv")) == ["a", "y"]
    for name in ("read_table", "column_names"):
        with pytest.raises(MissingExtraError, match=r"pip install 'unvanish\[parquet\]'"):
            read[name](str(tmp_path / "t.parquet"))
