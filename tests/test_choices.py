"""The names that a type allows are those of the table that is read."""

from typing import get_args, get_type_hints

import pytest

import unvanish
from unvanish.data import bundled_series, cache, images, labelled_text, synthetic, tabular
from unvanish.networks import normalization, recurrent, transformer
from unvanish.training import loss, schedule

NORMALIZATIONS = dict.fromkeys(name for table in normalization._NORMALIZATIONS.values() for name in table)


def names_in(hint):
    return [name for part in get_args(hint) for name in (names_in(part) if get_args(part) else [part])]


@pytest.mark.parametrize(
    ("kind", "argument", "table"),
    [
        (unvanish.Schedule, "name", schedule._SHAPES),
        (unvanish.Loss, "name", ["auto", *loss._LOSSES]),
        (unvanish.MLP, "normalization", NORMALIZATIONS),
        (unvanish.Recurrent, "cell", recurrent._CELLS),
        (unvanish.Recurrent, "activation", recurrent._ACTIVATIONS),
        (unvanish.Transformer, "positions", transformer._POSITIONS),
        (unvanish.SyntheticSequence, "problem", synthetic._PROBLEMS),
        (unvanish.Images, "dataset", images.SOURCES),
        (unvanish.Tabular, "dataset", tabular.DATASETS),
        (unvanish.Tabular, "task", tabular.TASKS),
        (unvanish.Series, "dataset", bundled_series.DATASETS),
        (unvanish.LabelledText, "tokenizer", labelled_text.TOKENIZERS),
        (unvanish.ImageFolder, "cache", cache.CACHES),
    ],
)
def test_a_type_allows_what_there_is(kind, argument, table):
    allowed = [name for name in names_in(get_type_hints(kind.__init__)[argument]) if name is not type(None)]
    assert allowed == list(table)
