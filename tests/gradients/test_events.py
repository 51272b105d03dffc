import math
from collections import Counter

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from unvanish.gradients import Record, Report
from unvanish.gradients.measure import octave_counts
from unvanish.gradients.show.events import CHARTED_LAYERS, CHARTED_SUMS, CHARTS, EventWriter, histogram
from unvanish.gradients.show.heat_map import heat_map_of, time_maps_of
from unvanish.gradients.show.pictures import picture_of

#: What is charted of layers; sums of the residual stream have names of their own.
CHARTED = [quantity for quantity in CHARTS if quantity != "stream_norm"]
MEASURED = [quantity for quantity in CHARTED if quantity not in ("gradient_norm", "gradient_cosine")]


def layers_of(depth):
    return [*(f"net.blocks.{index}.linear" for index in range(depth - 1)), "net.head"]


def record_of(step, layers, *, full=True, cosine=False, **more):
    """A record whose values tell the quantity, the layer and the step."""
    quantities = [
        "gradient_norm",
        *(["delta_norm", "delta_rms", *MEASURED[1:]] if full else []),
        *(["gradient_cosine"] if cosine else []),
    ]
    values = {quantity: {layer: step + index / 1024 for index, layer in enumerate(layers)} for quantity in quantities}
    return Record(step, 1e9 + step, values, {"gradient_norm": 3.0}, **more)


@pytest.fixture
def written(tmp_path):
    """Writes records and reads the log back, everything that is in it."""

    def write(records, total_steps=None, summary=None):
        with SummaryWriter(tmp_path) as writer:
            events = EventWriter(writer, total_steps)
            for record in records:
                events.write(record, summary or {})
        return read(tmp_path)

    return write


def read(folder):
    keep_all = dict.fromkeys(("scalars", "histograms", "tensors", "images"), 0)
    return EventAccumulator(str(folder), keep_all).Reload()


def points(log, tag):
    return [(event.step, event.value) for event in log.Scalars(tag)]


def events_of(folder):
    (file,) = folder.iterdir()
    return [event for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]


def run_of(steps, layers, counts=None):
    """As a recorder gives it: everything at the first steps and at every tenth, and the cosine one step later."""
    full = [step < 10 or step % 10 == 0 for step in range(steps)]
    for step in range(steps):
        histograms = counts if counts and step % 100 == 0 else {}
        yield record_of(step, layers, full=full[step], cosine=step > 0 and full[step - 1], histograms=histograms)


def test_each_value_of_a_step_is_written_under_its_quantity_and_the_layer_s_short_name(written):
    layers = layers_of(3)
    sums = {"gradient/first_over_last": 0.25, "gradient/first_over_last_log10": -0.6, "gradient/decay_per_layer": 0.7}
    record = record_of(7, layers, cosine=True)
    record.totals["loss"] = 2.5
    log = written([record], summary=sums)
    names = ["blocks.0", "blocks.1", "head"]
    tags = {f"{quantity}/{name}" for quantity in CHARTED for name in names}
    headline = {"Overview/loss", "Overview/first_over_last_log10"}
    assert set(log.Tags()["scalars"]) == tags | headline | {"gradient/norm", "gradient/decay_per_layer"}
    assert sorted(log.Tags()["scalars"])[:2] == sorted(headline)
    for quantity in CHARTED:
        for index, name in enumerate(names):
            value = 7 + index / 1024
            expected = math.log10(value) if quantity == "delta_log10" else value
            assert points(log, f"{quantity}/{name}") == [(7, pytest.approx(expected, rel=1e-6))]
    assert points(log, "gradient/norm") == [(7, 3.0)]
    assert points(log, "Overview/first_over_last_log10") == [(7, pytest.approx(-0.6))]
    assert points(log, "Overview/loss") == [(7, 2.5)]
    assert log.Scalars("gradient/norm")[0].wall_time == 1e9 + 7


def test_a_step_is_one_summary(written, tmp_path):
    counts = {layer: octave_counts(torch.ones(5)).int().tolist() for layer in layers_of(5)}
    written([record_of(step, layers_of(5), histograms=counts) for step in range(11)])
    assert Counter(event.step for event in events_of(tmp_path)) == dict.fromkeys(range(11), 1)


def test_nan_and_infinity_are_written_as_such(written):
    layers = ["first", "middle", "zero", "last"]
    values = dict(zip(layers, (math.nan, math.inf, 0.0, 1e300), strict=True))
    record = Record(0, 0.0, {"gradient_norm": values, "delta_norm": values, "delta_rms": values})
    log = written([record], summary={"gradient/decay_per_layer": math.nan})
    assert math.isnan(log.Scalars("gradient/decay_per_layer")[0].value)
    assert math.isnan(log.Scalars("delta_log10/first")[0].value)
    assert log.Scalars("delta_log10/middle")[0].value == math.inf
    assert log.Scalars("delta_log10/zero")[0].value == -math.inf
    assert log.Scalars("delta_log10/last")[0].value == 300
    assert log.Scalars("gradient_norm/last")[0].value == math.inf  # of float32, which TensorBoard's scalars are


@pytest.mark.slow
@pytest.mark.parametrize("total_steps", [100_000, None])
def test_a_long_run_stays_within_what_tensorboard_keeps(written, total_steps):
    counts = {"a": octave_counts(torch.ones(3)).int().tolist(), "b": [0] * 512}
    log = written(run_of(100_000, ["a", "b"], counts), total_steps)
    for tag in log.Tags()["scalars"]:
        assert len(log.Scalars(tag)) <= 1000, tag
    every, full, cosine = (
        [step for step, _ in points(log, tag)] for tag in ("gradient/norm", "update_ratio/a", "gradient_cosine/a")
    )
    # All three kinds of steps are there, the first steps whole, and the end too.
    assert every[:25] == list(range(25))
    assert [step for step in full if step < 50] == [*range(10), 10, 20, 30, 40]
    for steps, at_least in ((set(every) - set(full) - set(cosine), 30), (full, 60), (cosine, 30)):
        assert len(steps) >= at_least
        assert max(steps) > 90_000
    assert points(log, "update_ratio/a") == [(step, step) for step in full]
    histograms = [event.step for event in log.Histograms("gradient_log10/a")]
    assert histograms[0] == 0
    assert 15 <= len(histograms) <= 100
    assert max(histograms) > 75_000


def test_a_run_that_fits_is_written_whole(written):
    log = written(run_of(200, ["a", "b"]), 200)
    assert [step for step, _ in points(log, "gradient/norm")] == list(range(200))


def test_all_full_steps_of_a_longer_run_are_written_and_some_of_those_between(written):
    log = written(run_of(800, ["a", "b"]), 800)
    full = [*range(10), *range(10, 800, 10)]
    assert [step for step, _ in points(log, "gradient_norm/a")] == full
    between = {step for step, _ in points(log, "gradient/norm")} - {*full}
    assert 140 <= len(between) <= 200
    assert max(between) > 780


def test_two_optimizers_that_take_turns_are_both_written(written):
    records = (record_of(step, [["a", "b"], ["c", "d"]][step % 2]) for step in range(10_000))
    log = written(records, 10_000)
    totals = len(log.Scalars("gradient/norm"))
    assert totals <= 1000
    for layer in "abcd":
        assert len(log.Scalars(f"gradient_norm/{layer}")) == pytest.approx(totals / 2, abs=30)


def test_a_step_that_is_not_finite_is_written_out_of_turn(written):
    broken = Record(7777, 0.0, {"gradient_norm": {"a": math.nan}}, {"gradient_norm": math.nan})
    records = [*run_of(100, ["a"]), broken]
    alarms = [Record(step, 0.0, broken.values, broken.totals) for step in range(8000, 10_000)]
    log = written([*records, *alarms], 1_000_000)
    assert 7777 in [step for step, _ in points(log, "gradient_norm/a")]
    assert len(log.Scalars("gradient_norm/a")) < 250


def test_however_deep_a_network_is_it_gets_fewer_than_500_tags(written):
    layers = layers_of(400)
    through_time = {layer: {1: 1.0, 14: 2.0, 100: 3.0} for layer in layers[:20]}
    counts = {layer: octave_counts(torch.ones(3)).int().tolist() for layer in layers}
    record = record_of(0, layers, cosine=True, through_time=through_time, histograms=counts)
    record.values["dead_share"] = {}  # these are sigmoid layers
    log = written([record, record_of(1, layers)], summary={f"gradient/{index}": 1.0 for index in range(4)})
    tags = log.Tags()
    assert len(tags["scalars"]) + len(tags["histograms"]) < 500
    charted = [tag.removeprefix("delta_log10/") for tag in tags["scalars"] if tag.startswith("delta_log10/")]
    assert len(charted) == CHARTED_LAYERS
    assert (charted[0], charted[-1]) == ("blocks.0", "head")
    indices = [int(name.removeprefix("blocks.")) for name in charted[:-1]]
    assert set(np.diff(indices)) <= {9, 10}
    (note,) = log.Tensors("gradient/charts")
    assert note.tensor_proto.string_val[0].decode() == (
        f"{CHARTED_LAYERS} of 400 layers are charted, evenly spaced.\n\nOf 8 of 20 recurrent layers dL/dh_t is charted."
    )


def test_the_gradient_through_time_is_written_by_time(written):
    first = {"rnn.cell": {1: 0.125, 50: 0.5, 100: 2.0}}
    shorter = {"rnn.cell": {1: 0.25, 40: 1.0, 80: 3.0}}
    layers = ["rnn.cell", "rnn.head"]
    log = written([record_of(0, layers, through_time=first), record_of(1, layers, through_time=shorter)])
    tags = [tag for tag in log.Tags()["scalars"] if tag.startswith("dh_log10/")]
    assert tags == [f"dh_log10/cell/t{t}" for t in ("0001", "0050", "0100")]
    assert points(log, "dh_log10/cell/t0001") == [
        (0, pytest.approx(math.log10(0.125))),
        (1, pytest.approx(math.log10(0.25))),
    ]
    assert points(log, "dh_log10/cell/t0100") == [(0, pytest.approx(math.log10(2.0)))]


def test_histograms_count_magnitudes_by_octave_on_a_log10_axis(written):
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(5003, generator=generator) * 10 ** torch.empty(5003).uniform_(-9, 3, generator=generator)
    gradient[:7], gradient[7:10], gradient[10] = 0.0, math.nan, -math.inf
    counts = octave_counts(gradient).int().tolist()
    log = written([record_of(0, ["a", "b"], histograms={"a": counts, "b": counts})])
    finite = gradient[11:].double().abs().log10().numpy()
    (event,) = log.Histograms("gradient_log10/a")
    found = event.histogram_value
    assert found.num == len(finite)
    edges = np.array([found.min, *found.bucket_limit])
    assert np.diff(edges) == pytest.approx(np.full(len(found.bucket), math.log10(2)))
    assert found.bucket == np.histogram(finite, edges)[0].tolist()
    assert found.min <= finite.min() < edges[1]
    assert edges[-2] <= finite.max() < found.max
    assert points(log, "gradient/non_finite") == [(0, 8.0)]
    assert points(log, "gradient/zeros") == [(0, 14.0)]


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_histogram_of_nothing_but_zeros_or_nan_is_empty(written, value):
    counts = octave_counts(torch.full((5,), value)).int().tolist()
    assert not histogram(counts).bucket
    log = written([record_of(0, ["a", "b"], histograms={"a": counts, "b": counts})])
    assert log.Histograms("gradient_log10/a")[0].histogram_value.num == 0
    assert points(log, "gradient/non_finite") == [(0, 10.0 if math.isnan(value) else 0.0)]


def test_the_custom_scalars_page_has_a_chart_for_every_quantity(written):
    records = [
        record_of(0, ["rnn.a", "rnn.b"], full=False),
        record_of(1, ["rnn.a", "rnn.b"], through_time={"rnn.a": {1: 1.0, 9: 1.0}}),
        record_of(2, ["rnn.a", "rnn.b"]),
    ]
    log = written(records, summary={"gradient/first_over_last_log10": 0.0})
    (event,) = log.Tensors("custom_scalars__config__")
    assert event.step == 1
    assert log.summary_metadata["custom_scalars__config__"].plugin_data.plugin_name == "custom_scalars"
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    (category,) = layout.category
    patterns = [pattern for chart in category.chart for pattern in chart.multiline.tag]
    summary = ["^Overview/first_over_last_log10$", "^gradient/norm$"]
    assert patterns == [*summary, *(f"^{quantity}/" for quantity in CHARTED), "^dh_log10/a/t"]


def test_the_verdict_and_the_heat_map_are_written(tmp_path):
    report = Report()
    report.add([record_of(step, layers_of(3), through_time={"net.head": {1: 0.5, 9: 2.0}}) for step in range(4)])
    with SummaryWriter(tmp_path) as writer:
        events = EventWriter(writer)
        events.write(report.first[0], {})
        events.tell(report)
        events.close(report)
    log = read(tmp_path)
    (text,) = log.Tensors("gradient/verdict")
    assert text.step == 3
    assert text.tensor_proto.string_val[0].startswith(f"**{report.end.name}** after 4 steps: ".encode())
    assert log.summary_metadata["gradient/verdict"].plugin_data.plugin_name == "text"
    (image,) = log.Images("gradient/delta_heat_map")
    assert image.encoded_image_string == heat_map_of(report)
    (verdict,) = log.Images("Overview/verdict")
    assert verdict.encoded_image_string == picture_of(report)
    (through_time,) = log.Images("gradient/dh_heat_map/head")
    assert through_time.encoded_image_string == time_maps_of(report)["net.head"]
    from PIL import Image

    (tmp_path / "image.png").write_bytes(image.encoded_image_string)
    with Image.open(tmp_path / "image.png") as opened:
        assert opened.size == (image.width, image.height)


def test_sums_of_the_residual_stream_are_charted_beside_the_layers(written):
    streams = {f"blocks.{index}+": 1.0 + index for index in range(50)}
    record = record_of(0, layers_of(3))
    record.values["stream_norm"] = streams
    log = written([record])
    tags = [tag for tag in log.Tags()["scalars"] if tag.startswith("stream_norm/")]
    assert (len(tags), tags[0], tags[-1]) == (CHARTED_SUMS, "stream_norm/blocks.0+", "stream_norm/blocks.49+")
    assert points(log, tags[-1]) == [(0, 50.0)]
