import math

import pytest
import yaml

from unvanish.command.main import main
from unvanish.command.yaml_text import parse


def test_numbers_are_those_of_yaml_1_2_and_dates_are_text():
    assert parse("{a: 1e-3, b: 2020-01-01, d: [1, x]}") == {"a": 1e-3, "b": "2020-01-01", "d": [1, "x"]}


LEVELS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a0: &a0 [x]\n" + LEVELS, "its aliases stand for more than 100,000 values"),
        ("a: &a {b: *a}", "a value holds itself"),
        ("[" * 20_000, "it is nested more than 50 deep"),
        ("a:\n  b: 1\n  c: 2\n  b: 3", "the key 'b' is there twice"),
        ("a: !!binary aGk=", "a value is of the kind bytes, which no recipe has"),
        ("a: !!set {x, y}", "a value is of the kind set, which no recipe has"),
        ("a: " + "x" * 1_000_001, "it has more than 1,000,000 characters"),
    ],
    ids=["aliases of aliases", "itself", "deep", "twice", "bytes", "a set", "long"],
)
def test_what_no_recipe_is_answered_in_a_line_and_at_once(workplace, capsys, text, why):
    (workplace / "r.yaml").write_text(text)
    assert main(["recipes", "show", "r.yaml", "--resolved"]) == 2
    error = capsys.readouterr().err
    assert " ".join(error.split()).startswith("unvanish: r.yaml is not readable YAML: ")
    assert why in " ".join(error.split())


def test_a_merge_key_may_be_overridden():
    assert parse("base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}")["other"] == {"x": 1, "y": 3}


def test_what_is_no_yaml_stays_so():
    with pytest.raises(yaml.YAMLError):
        parse("a: [1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("10", 10),
            ("-7", -7),
            ("0", 0),
            ("1_000", 1000),
            ("0x1f", 31),
            ("1e-3", 1e-3),
            ("2.5E3", 2500.0),
            (".5", 0.5),
        ],
        *[
            ("-.inf", -math.inf),
            ("1.", 1.0),
            ("3e5", 3e5),
            ("010", "010"),
            ("1:30", "1:30"),
            ("12:00:00:00", "12:00:00:00"),
        ],
        ("1:30.5", "1:30.5"),
    ],
)
def test_a_number_is_what_is_written(text, value):
    found = parse(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(yaml.YAMLError, match="a number has too many digits"):
        parse("a: " + "9" * 5000)
