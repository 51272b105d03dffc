import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from unvanish.data.features import FeatureCoder

ROWS, TRAIN = 60, np.arange(40)


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "city": random.choice(["Rome", "Oslo", "Bern"], ROWS),
            "size": random.normal(70, 30, ROWS),
            "rooms": random.integers(1, 9, ROWS),
            "kept": random.choice(["yes", "no", None], ROWS),
            "never": np.nan,
            "flat": random.random(ROWS) < 0.5,
        }
    )
    frame.loc[random.random(ROWS) < 0.2, "size"] = np.nan
    frame.loc[50, "city"] = "Paris"
    return frame


def test_the_coding_is_to_the_bit_that_of_sklearn_s_transformers(table):
    coder = FeatureCoder.fit(table, TRAIN, impute=True, source="t")
    texts = ["city", "kept", "flat"]
    plain = table.assign(**{name: table[name].astype(object).map(str, na_action="ignore") for name in texts})
    plain = plain.where(plain.notna(), np.nan)
    scaled = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    theirs = ColumnTransformer([("numbers", scaled, ["size", "rooms", "never"]), ("texts", one_hot, texts)])
    theirs.fit(plain.iloc[TRAIN])
    expected = torch.tensor(theirs.transform(plain), dtype=torch.float32)
    assert coder(table, "t").shape == (ROWS, 3 + 3 + 3 + 2)
    assert torch.equal(coder(table, "t"), expected)
    assert not coder(table, "t")[50, 3:6].any()  # Paris is none of the three


def test_what_is_learnt_is_plain_and_codes_the_same_again(table):
    coder = FeatureCoder.fit(table, TRAIN, impute=True, source="t")
    again = FeatureCoder.from_plain(json.loads(json.dumps(coder.plain())))
    assert torch.equal(again(table[table.columns[::-1]], "u"), coder(table, "t"))
