import re

import pytest

from unvanish.names import lookup, nearest

TABLE = {"relu": 2, "tanh": 3, "selu": 5}


def test_lookup_returns_the_value_of_a_known_name():
    assert [lookup("activation", name, TABLE) for name in TABLE] == [2, 3, 5]


@pytest.mark.parametrize(("name", "hint"), [("reul", "; did you mean 'relu'?"), ("tahn", "; did you mean 'tanh'?")])
def test_a_misspelt_name_is_answered_with_the_nearest_and_the_list(name, hint):
    assert nearest(name, TABLE) == hint
    with pytest.raises(ValueError, match=re.escape(f"unknown activation {name!r}{hint} (known: relu, tanh, selu)")):
        lookup("activation", name, TABLE)


def test_a_name_like_no_other_gets_the_list_alone():
    assert nearest("xyz", TABLE) == ""
    with pytest.raises(ValueError, match=re.escape("unknown activation 'xyz' (known: relu, tanh, selu)")):
        lookup("activation", "xyz", TABLE)


def test_a_long_list_is_left_out_where_a_name_is_near():
    table = dict.fromkeys(map(str, range(1000, 1030)), 0)
    with pytest.raises(ValueError, match=r"^unknown year '1029O'; did you mean '1029'\?$"):
        lookup("year", "1029O", table)
    with pytest.raises(ValueError, match=r"known: 1000, 1001, .*, 1029"):
        lookup("year", "x", table)
