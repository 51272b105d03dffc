import io
import math

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image

from unvanish.gradients.show import pictures


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
    deltas = [{"a": 1e-8, "b": 1e-4, "c": 1.0}, {"a": 1e-6, "b": 1e-2, "c": 1.0}]
    found = pictures.cells(deltas)
    assert (found.layers, found.low, found.high, found.kinds) == (["a", "b", "c"], -8, 0, {})
    picture = pixels(pictures.heat_map([0, 1], deltas))
    for row, layer in enumerate("abc"):
        for column, delta in enumerate(deltas):
            colour = colormaps["cividis"]((math.log10(delta[layer]) + 8) / 8, bytes=True)
            assert tuple(found.colours[row, column]) == colour
            # Two columns lie between the layers' names and the scale, three rows above the steps.
            height = 49 + (2.5 - row) / 3 * (len(picture) - 119 - 49)
            assert tuple(picture[round(height), 280 + 360 * column]) == colour[:3]


def test_nan_infinite_zero_and_missing_cells_have_colours_of_their_own():
    usual = {"a": 1e-3, "b": 1e-2}
    odd = [{"a": math.nan, "b": math.nan}, {"a": math.inf, "b": 1e-2}, {"a": 0.0, "b": 1e-2}, {"b": 1e-2}]
    found = pictures.cells([usual, *odd])
    broken = tuple(np.round(np.array(to_rgb(pictures.BROKEN)) * 255))
    assert [tuple(cell) for cell in found.colours[:, 1, :3]] == [broken] * 2
    assert tuple(found.colours[0, 2, :3]) == broken
    assert tuple(found.colours[0, 3]) == (255, 255, 255, 255)
    assert found.colours[0, 4, 3] == 0
    assert (found.colours[:, 0, 3] == 255).all()
    assert list(found.kinds) == ["NaN or infinite", "exactly 0", "not measured"]
    picture = pixels(pictures.heat_map(list(range(5)), [usual, *odd]))
    assert share_of(picture, pictures.BROKEN)[0] > 0.1
    assert share_of(picture, "#999999")[0] > 0  # the hatched ground


def test_a_nan_column_can_be_seen_in_the_picture():
    deltas = [net(5, 0.5) for _ in range(8)]
    share, _ = share_of(pixels(pictures.heat_map(list(range(8)), deltas)), pictures.BROKEN)
    assert share == 0
    deltas[6] = dict.fromkeys(deltas[6], math.nan)
    picture = pixels(pictures.heat_map(list(range(8)), deltas))
    share, _ = share_of(picture, pictures.BROKEN)
    top, bottom, left, right = share_of(picture[: int(0.85 * len(picture))], pictures.BROKEN)[1]  # above the legend
    height, width, _ = picture.shape
    assert 0.04 < share < 0.12
    assert bottom - top > 0.5 * height
    assert 0.06 * width < right - left < 0.12 * width
    assert (left + right) / 2 > width / 2


@pytest.mark.parametrize(("depth", "steps"), [(3, 1), (20, 110), (200, 256), (400, 2)])
def test_a_picture_has_a_size_that_can_be_read(depth, steps):
    picture = pixels(pictures.heat_map(list(range(steps)), [net(depth, 0.9)] * steps))
    assert picture.shape[1] == 980
    assert 400 <= picture.shape[0] <= 900


def test_a_healthy_network_looks_even():
    found = pictures.cells([{"a": 1.0, "b": 2.0}])
    # The scale shows three decades at least; a factor of two is a tenth of them.
    for row, place in enumerate((0.5 - math.log10(2) / 6, 0.5 + math.log10(2) / 6)):
        assert tuple(found.colours[row, 0]) == colormaps["cividis"](place, bytes=True)


def test_a_heat_map_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no layer"):
        pictures.heat_map([0], [{}])
    with pytest.raises(ValueError, match="1 steps for 2 columns"):
        pictures.heat_map([0], [{"a": 1.0}] * 2)


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
            middle = 110 + round((layer + 0.5) * 856 / 3)
            assert (share_of(picture[100:, middle - 4 : middle + 5], colour)[0] > 0) == is_there
    assert share_of(picture[100:530, 112:], "#000000")[0] > 0.001


def test_what_has_no_place_on_the_axis_is_marked_and_counted():
    odd = {"a": 0.0, "b": 0.0, "c": math.nan, "d": math.inf, "e": 1.0}
    curve = pictures.curve_of("abcde", "run", odd)
    assert curve.label == "run (▽ exactly 0 in 2, △ infinite in 1, ✕ NaN in 1 of 5)"
    assert curve.odd == {"v": [0, 1], "^": [3], "x": [2]}
    picture = pixels(pictures.delta_by_depth({"run": odd}, None, "dead"))[100:]
    rows = []
    for layer in range(5):
        middle = 110 + round((layer + 0.5) * 856 / 5)
        rows.append(share_of(picture[:, middle - 12 : middle + 13], pictures.COLOURS[0])[1][0])
    assert rows[0] == rows[1] > rows[4] > rows[3]
    assert abs(rows[2] - rows[3]) < 10


@pytest.mark.parametrize("curve", [{"a": math.nan, "b": math.nan}, net(200, 0.5), {"a": 1.0}, net(20, 4.0)])
def test_every_curve_can_be_drawn(curve):
    assert pixels(pictures.delta_by_depth({"run": curve}, None, "title")).shape == (616, 980, 3)


def test_long_names_keep_their_number():
    layers = [f"transformer.blocks.{index}.attention.out_proj" for index in range(100)]
    assert pictures._layer_ticks([*layers, "head"], 24)[1][:2] == ["0.attention.out_proj", "5.attention.out_proj"]


@pytest.mark.parametrize("length", [1, 2, 23, 24, 25, 47, 48, 49, 200, 401])
def test_ticks_are_even_and_hold_the_ends(length):
    places = pictures._spread(length, 24)
    assert (places[0], places[-1]) == (0, length - 1)
    assert len(places) <= 24
    strides = set(np.diff(places)[:-1].tolist())
    assert len(strides) <= 1
