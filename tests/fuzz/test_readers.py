"""Spoiled files of every kind are read, or refused in one line; and so are those that once were neither."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.__main__ import FINE, ONE_LINE, outcome
from benchmarks.fuzz.readers import READERS, spoiled

# `make fuzz` draws others each time.
FEW = settings(
    max_examples=15, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def kind_of(file):
    return next(kind for kind, reader in READERS.items() if file.name.endswith(f".{reader.name}"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
@FEW
@given(seed=st.integers(0, 2**32 - 1))
def test_a_spoiled_file_is_read_or_refused_in_one_line(tmp_path, kind, seed):
    path = tmp_path / READERS[kind].name
    READERS[kind].whole(path)
    result, words = outcome(kind, spoiled(path.read_bytes(), seed), tmp_path)
    assert result in (FINE, ONE_LINE), words


def test_a_good_file_of_each_kind_is_read(tmp_path):
    for kind, reader in READERS.items():
        reader.whole(tmp_path / reader.name)
        assert outcome(kind, (tmp_path / reader.name).read_bytes(), tmp_path) == (FINE, "")


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_what_was_found_stays_mended(tmp_path, file):
    kind = kind_of(file)
    READERS[kind].whole(tmp_path / READERS[kind].name)
    result, words = outcome(kind, file.read_bytes(), tmp_path)
    assert result in (FINE, ONE_LINE), words
