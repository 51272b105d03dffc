import io
import math

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from unvanish.gradients import Record, Report
from unvanish.gradients.show import heat_map, pictures


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def share_of(picture, colour):
    """The share of pixels of a colour, and the box around them: (top, bottom, left, right)."""
    found = (np.abs(picture.astype(int) - np.round(np.array(to_rgb(colour)) * 255)) <= 2).all(axis=2)
    rows, columns = np.nonzero(found.any(axis=1))[0], np.nonzero(found.any(axis=0))[0]
    return found.mean(), (rows.min(), rows.max(), columns.min(), columns.max()) if rows.size else None


def net(depth, factor):
    return {f"net.hidden.{index}.linear": factor ** (depth - index) for index in range(depth)}


def test_a_cell_has_the_colour_of_its_logarithm_the_first_layer_lowest():
    deltas = [{"a": 1e-8, "b": 1e-4, "c": 1.0}, {"a": 1e-6, "b": 1e-2, "c": 10.0}]
    found = heat_map.cells(deltas)
    assert (found.rows, found.kinds) == (["a", "b", "c"], {})
    picture = pixels(heat_map.heat_map([0, 1], deltas))
    for row, layer in enumerate("abc"):
        for column, delta in enumerate(deltas):
            colour = colormaps["cividis"]((math.log10(delta[layer]) + 18) / 19, bytes=True)
            assert tuple(found.colours[row, column]) == colour
            # Two columns lie between the layers' names and the scale, three rows above the steps.
            height = 46 + (2.5 - row) / 3 * (len(picture) - 112 - 46)
            assert tuple(picture[round(height), 180 + 240 * column]) == colour[:3]


def test_nan_infinite_zero_and_missing_cells_have_colours_of_their_own():
    usual = {"a": 1e-3, "b": 1e-2}
    odd = [{"a": math.nan, "b": math.nan}, {"a": math.inf, "b": 1e-2}, {"a": 0.0, "b": 1e-2}, {"b": 1e-2}]
    found = heat_map.cells([usual, *odd])
    broken = tuple(np.round(np.array(to_rgb(heat_map.BROKEN)) * 255))
    assert [tuple(cell) for cell in found.colours[:, 1, :3]] == [broken] * 2
    assert tuple(found.colours[0, 2, :3]) == broken
    assert tuple(found.colours[0, 3]) == (255, 255, 255, 255)
    assert found.colours[0, 4, 3] == 0
    assert (found.colours[:, 0, 3] == 255).all()
    assert list(found.kinds) == ["NaN or infinite", "exactly 0", "not measured"]
    picture = pixels(heat_map.heat_map(list(range(5)), [usual, *odd]))
    assert share_of(picture, heat_map.BROKEN)[0] > 0.1
    assert share_of(picture, "#999999")[0] > 0  # the hatched ground


def test_a_nan_column_can_be_seen_in_the_picture():
    deltas = [net(5, 0.5) for _ in range(8)]
    share, _ = share_of(pixels(heat_map.heat_map(list(range(8)), deltas)), heat_map.BROKEN)
    assert share == 0
    deltas[6] = dict.fromkeys(deltas[6], math.nan)
    picture = pixels(heat_map.heat_map(list(range(8)), deltas))
    share, _ = share_of(picture, heat_map.BROKEN)
    top, bottom, left, right = share_of(picture[: int(0.85 * len(picture))], heat_map.BROKEN)[1]  # above the legend
    height, width, _ = picture.shape
    assert 0.04 < share < 0.12
    assert bottom - top > 0.5 * height
    assert 0.06 * width < right - left < 0.12 * width
    assert (left + right) / 2 > width / 2


@pytest.mark.parametrize(("depth", "steps"), [(3, 1), (20, 110), (200, 256), (400, 2)])
def test_a_picture_has_a_size_that_can_be_read(depth, steps):
    picture = pixels(heat_map.heat_map(list(range(steps)), [net(depth, 0.9)] * steps))
    assert picture.shape[1] == 680
    assert 470 <= picture.shape[0] <= 620


def test_the_scale_is_the_same_in_every_picture_and_what_lies_beyond_has_the_colour_of_its_end():
    alone, beside = heat_map.cells([{"a": 1e-3}]), heat_map.cells([{"a": 1e-3, "b": 1e-17}])
    assert (alone.colours[0] == beside.colours[0]).all()
    (low, bottom), (high, top) = (
        heat_map.cells([{"a": ends[0], "b": ends[1]}]).colours[:, 0] for ends in ((1e-30, 1e-18), (1e9, 10.0))
    )
    assert (low == bottom).all()
    assert (high == top).all()
    assert [tuple(low), tuple(high)] == [*map(tuple, colormaps["cividis"]([0.0, 1.0], bytes=True))]


def test_maps_side_by_side_have_the_colours_that_each_has_alone():
    runs = {f"run {index}": ([0, 20], [{"a": 10.0**-index, "b": 1.0}] * 2) for index in range(8)}
    picture = pixels(heat_map.side_by_side(runs))
    for index in range(8):
        left, top = 70 + index % 6 * 210, 76 + index // 6 * 326
        colours = heat_map.cells(runs[f"run {index}"][1]).colours
        assert tuple(picture[top + 190, left + 90]) == tuple(colours[0, 0, :3])
        assert tuple(picture[top + 60, left + 90]) == tuple(colours[1, 0, :3])
    assert tuple(picture[76 + 326 + 125, 70 + 2 * 210 + 90]) == (255, 255, 255)
    with pytest.raises(ValueError, match="no run"):
        heat_map.side_by_side({})


def test_the_gradient_through_time_has_a_row_a_time_and_a_column_a_step():
    report = Report()
    values = {"delta_norm": {"rnn": 1.0, "head": 1.0}, "gradient_norm": {"rnn": 1.0}}
    for step in range(4):
        times = {1: 10.0 ** (step - 12), 50: 1e-3, 100: 1.0}
        report.add([Record(step, 0.0, values, through_time={"rnn": times})])
    ((layer, png),) = heat_map.time_maps_of(report).items()
    assert layer == "rnn"
    picture = pixels(png)
    left, right, height = 58 + heat_map.width_of("t = 100"), 680 - 132, len(picture) - 112 - 46
    for step in range(4):
        x = round(left + (step + 0.5) / 4 * (right - left))
        for row, log in enumerate((step - 12, -3, 0)):
            colour = colormaps["cividis"]((log + 18) / 19, bytes=True)
            assert tuple(picture[round(46 + (2.5 - row) / 3 * height), x]) == colour[:3]


def test_a_heat_map_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no layer"):
        heat_map.heat_map([0], [{}])
    with pytest.raises(ValueError, match="1 steps for 2 columns"):
        heat_map.heat_map([0], [{"a": 1.0}] * 2)


def test_curves_show_each_layer_s_value_and_the_theory():
    before, after = {"a": 1e-3, "b": 1e-2, "c": 1e-1}, {"a": 0.5, "c": 2.0}
    assert pictures.curve_of("abc", "before", before) == ("before", [-3, -2, -1], {"v": [], "^": [], "x": []})
    logs = pictures.curve_of("abc", "after", after).logs
    assert logs == pytest.approx([math.log10(0.5), math.nan, math.log10(2)], nan_ok=True)
    png = pictures.delta_by_depth({"before": before, "after": after}, {"a": 1e-4, "b": 1e-2, "c": 1.0}, "vanishing")
    picture = pixels(png)
    # The middle of each third of the axes, below the legend: the second layer has no mark of the second curve.
    for colour, layers in ((pictures.COLOURS[0], [True, True, True]), (pictures.COLOURS[1], [True, False, True])):
        for layer, is_there in enumerate(layers):
            middle = 110 + round((layer + 0.5) * 516 / 3)
            assert (share_of(picture[100:, middle - 4 : middle + 5], colour)[0] > 0) == is_there
    assert share_of(picture[100:390, 112:], "#000000")[0] > 0.001


def test_what_has_no_place_on_the_axis_is_marked_and_counted():
    odd = {"a": 0.0, "b": 0.0, "c": math.nan, "d": math.inf, "e": 1.0}
    curve = pictures.curve_of("abcde", "run", odd)
    assert curve.label == "run (▽ exactly 0 in 2, △ infinite in 1, ✕ NaN in 1 of 5)"
    assert curve.odd == {"v": [0, 1], "^": [3], "x": [2]}
    picture = pixels(pictures.delta_by_depth({"run": odd}, None, "dead"))[100:]
    rows = []
    for layer in range(5):
        middle = 110 + round((layer + 0.5) * 516 / 5)
        rows.append(share_of(picture[:, middle - 12 : middle + 13], pictures.COLOURS[0])[1][0])
    assert rows[0] == rows[1] > rows[4] > rows[3]
    assert abs(rows[2] - rows[3]) < 10


@pytest.mark.parametrize("curve", [{"a": math.nan, "b": math.nan}, net(200, 0.5), {"a": 1.0}, net(20, 4.0)])
def test_every_curve_can_be_drawn(curve):
    assert pixels(pictures.delta_by_depth({"run": curve}, None, "title")).shape == (460, 640, 3)


def test_long_names_keep_their_number():
    layers = [f"transformer.blocks.{index}.attention.out_proj" for index in range(100)]
    assert pictures.layer_ticks([*layers, "head"], 24)[1][:2] == ["0.attention.out_proj", "5.attention.out_proj"]


@pytest.mark.parametrize("length", [1, 2, 23, 24, 25, 47, 48, 49, 200, 401])
def test_ticks_are_even_and_hold_the_ends(length):
    places = pictures.spread(length, 24)
    assert (places[0], places[-1]) == (0, length - 1)
    assert len(places) <= 24
    strides = set(np.diff(places)[:-1].tolist())
    assert len(strides) <= 1
