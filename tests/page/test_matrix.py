import base64
import math
import struct

import pytest

from unvanish.page.matrix import LEVELS, evenly, joined, packed, row_of, thinned, unpacked

ROWS = {"first": {0: 1e-30, 10: 0.0, 20: math.nan}, "last": {0: 1.0, 10: math.inf, 30: 1e-15}}


def codes(matrix):
    data = base64.b64decode(matrix["data"])
    return list(struct.unpack(f"<{len(data) // 2}H", data))


def test_each_number_has_its_place_between_the_lowest_and_the_highest():
    matrix = packed("delta", ROWS, log=True)
    assert (matrix["layers"], matrix["steps"]) == (["first", "last"], [0, 10, 20, 30])
    assert (matrix["low"], matrix["high"]) == (-30.0, 0.0)
    #                          1e-30 0      NaN    missing  1       inf   missing 1e-15, half way
    assert codes(matrix) == [0, 65533, 65534, 65532, LEVELS, 65535, 65532, round(LEVELS / 2)]


def test_what_was_packed_comes_back():
    found = unpacked(packed("delta", ROWS, log=True))
    assert found["first"] == pytest.approx({0: -30.0, 10: -math.inf, 20: math.nan}, nan_ok=True)
    assert found["last"] == pytest.approx({0: 0.0, 10: math.inf, 30: -15.0}, abs=30 / LEVELS)


def test_on_a_linear_scale_zero_is_a_number():
    matrix = packed("share", {"a": {1: 0.0, 2: -0.5}, "b": {1: 0.25}}, log=False)
    assert (matrix["low"], matrix["high"]) == (-0.5, 0.25)
    assert unpacked(matrix) == {"a": {1: pytest.approx(0.0, abs=1e-5), 2: -0.5}, "b": {1: 0.25}}


def test_logarithms_stay_what_they_are():
    matrix = packed("delta", {"a": {1: -60.0, 2: -math.inf}}, log=True, is_log_already=True)
    assert unpacked(matrix) == {"a": {1: -60.0, 2: -math.inf}}


@pytest.mark.parametrize("rows", [{"a": {1: math.nan}}, {"a": {1: 3.0}}])
def test_a_matrix_without_a_span_has_finite_ends(rows):
    matrix = packed("x", rows, log=False)
    assert math.isfinite(matrix["low"])
    assert unpacked(matrix)["a"][1] == pytest.approx(rows["a"][1], nan_ok=True)


def test_thinning_keeps_the_first_step_and_the_last():
    matrix = packed("x", {"a": {step: float(step) for step in range(101)}}, log=False)
    assert unpacked(thinned(matrix, 3)) == {"a": {0: 0.0, 50: pytest.approx(50, abs=1e-2), 100: 100.0}}
    assert evenly([3, 5, 7], 5) == [3, 5, 7]
    assert evenly([3, 5, 7], 1) == [3]


def test_matrices_of_one_stretch_of_steps_after_another_are_one():
    later = {"first": {40: 1e-10}, "new": {40: 100.0, 50: 0.0}}
    found = joined([packed("delta", ROWS, log=True), packed("delta", later, log=True)])
    assert (found["layers"], found["steps"]) == (["first", "last", "new"], [0, 10, 20, 30, 40, 50])
    assert (found["low"], found["high"]) == (-30.0, 2.0)
    rows = unpacked(found)
    assert rows["first"] == pytest.approx({0: -30, 10: -math.inf, 20: math.nan, 40: -10}, abs=1e-3, nan_ok=True)
    assert rows["last"] == pytest.approx({0: 0.0, 10: math.inf, 30: -15.0}, abs=1e-3)
    assert rows["new"] == {40: 2.0, 50: -math.inf}
    assert unpacked(row_of(found, "new")) == {"new": {40: 2.0, 50: -math.inf}}
