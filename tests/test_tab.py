"""The tab Gradients and report.html in a real browser: what is drawn, read from the page itself."""

import json
import time
import urllib.error
import urllib.request
from itertools import pairwise

import pytest
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from tests.tab import browser, tensorboard
from unvanish.gradients import Record, Report
from unvanish.gradients.show.events import EventWriter
from unvanish.gradients.show.runs import run_of
from unvanish.page import write

pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
pytestmark = [pytest.mark.slow, pytest.mark.browser]

LAYERS = [f"net.hidden.{k}.linear" for k in range(11)] + ["net.output"]
SHORT = [*(f"hidden.{k}" for k in range(11)), "output"]
STEPS = [*range(12), 20, 40, 60]
DARKEST, BRIGHTEST = [68, 1, 84], [253, 231, 37]  # the ends of viridis

#: The pixel of a run's map at a layer, counted from the input, and a share of its width.
PIXEL = """
const [run, share, row, rows, done] = arguments;
const picture = new Image();
picture.onload = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  const x = Math.min(Math.floor(share * picture.width), picture.width - 1);
  done({height: picture.height, colour: [...pen.getImageData(x, rows - 1 - row, 1, 1).data].slice(0, 3)});
};
picture.src = document.querySelector(`image.cells[data-run="${run}"]`).getAttribute("href");
"""


def records(factor, last=0, broken=None, states=False, layers=LAYERS):
    """A gradient that changes by a factor a layer, from 1 at the loss; at ``broken`` it is NaN in the first layer."""
    for step in STEPS:
        deltas = {layer: factor ** (len(layers) - 1 - k) * 10.0**-last for k, layer in enumerate(layers)}
        if step == broken:
            deltas[layers[0]] = float("nan")
        values = dict.fromkeys(("delta_rms", "delta_norm", "gradient_norm"), deltas)
        values["update_ratio"] = dict.fromkeys(layers, 1e-3)
        values["saturated_share"] = dict.fromkeys(layers[:-1], 0.5)
        counts = [0] * 512
        counts[127], counts[128] = 3, 6
        times = {layers[0]: {1: 1e-8, 10: 1.0}} if states else {}
        yield Record(step, 1.0 + step, values, {"gradient_norm": 1.0}, times, dict.fromkeys(layers, counts))


def report_of(found):
    report = Report()
    report.add(found)
    report.change_of = lambda words: {"model.residual": True} if words == "residual connections" else {}
    return report


RUNS = {
    "ill/seed0": {"factor": 0.01},
    "level/seed0": {"factor": 1.0},
    "level/seed1": {"factor": 1.0, "last": 1},
    "broken": {"factor": 0.9, "broken": 60},
    "timed": {"factor": 0.8, "states": True},
}


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, how in RUNS.items():
        with SummaryWriter(str(folder / name)) as writer:
            events = EventWriter(writer)
            for record in records(**how):
                events.write(record, {})
            events.tell(report_of(records(**how)))
            writer.add_scalar("test/accuracy", 0.125 if name == "ill/seed0" else 0.875, 60)
    with SummaryWriter(str(folder / "old")) as writer:  # as files were before the tab
        logs = [Summary.Value(tag=f"delta_log10/hidden.{k}", simple_value=-3.0) for k in (10, 2)]
        writer._get_file_writer().add_summary(Summary(value=logs), 0)
    return folder


def count_of_runs(address):
    with urllib.request.urlopen(f"{address}data/plugin/gradients/runs") as answer:
        return len(json.load(answer))


@pytest.fixture(scope="module")
def address(log_folder):
    with tensorboard(log_folder) as found:
        deadline = time.monotonic() + 60
        while count_of_runs(found) < len(RUNS) + 1:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield found


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


class Shown:
    """The page with some questions."""

    def __init__(self, driver):
        self.driver = driver

    def js(self, code, *values):
        return self.driver.execute_script(code, *values)

    def texts(self, selector):
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    def pixel(self, run, share, row, rows=12):
        found = self.driver.execute_async_script(PIXEL, run, share, row, rows)
        assert found["height"] == rows  # a row a layer
        return found["colour"]

    def click(self, run, shift=False):
        before = self.js("return document.body.dataset.drawn")
        event = "new MouseEvent('click', {bubbles: true, shiftKey: arguments[1]})"
        self.js(
            f"document.querySelector(`[role=option][data-run='${{arguments[0]}}']`).dispatchEvent({event})", run, shift
        )
        self.until(lambda: self.js("return document.body.dataset.drawn") != before)

    def choose(self, quantity):
        before = self.js("return document.body.dataset.drawn")
        menu = "const menu = document.querySelector('[aria-label=quantity]');"
        self.js(f"{menu} menu.value = arguments[0]; menu.dispatchEvent(new Event('change'))", quantity)
        self.until(lambda: self.js("return document.body.dataset.drawn") != before)

    def until(self, holds):
        deadline = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < deadline, self.driver.get_log("browser")
            time.sleep(0.05)


def shown_tab(driver, address):
    """The tab in its frame, within TensorBoard."""
    driver.get("about:blank")
    driver.get(f"{address}#gradients")
    shown = Shown(driver)
    frame = "return [...document.querySelectorAll('iframe')].find((f) => f.src.includes('name=gradients'))"
    shown.until(lambda: shown.js(frame) is not None)
    driver.switch_to.frame(shown.js(frame))
    shown.until(lambda: shown.js("return document.body && document.body.dataset.drawn"))
    return shown


@pytest.fixture
def tab(driver, address):
    yield shown_tab(driver, address)
    driver.switch_to.default_content()
    severe = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert not severe


@pytest.fixture
def deep(driver, tmp_path):
    """The tab of a run with more layers than TensorBoard's own pages have charts for."""
    names = [f"net.blocks.{k}.attention.projection" for k in range(59)] + ["net.output"]
    with SummaryWriter(str(tmp_path / "deep")) as writer:
        events = EventWriter(writer)
        found = [*records(0.1, layers=names)]
        for record in found:
            events.write(record, {})
        events.tell(report_of(found))
    with tensorboard(tmp_path) as address:
        deadline = time.monotonic() + 60
        while not count_of_runs(address):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield shown_tab(driver, address)
        driver.switch_to.default_content()


@pytest.fixture
def disk(driver, tmp_path):
    """report.html of two runs, from disk."""
    runs = [run_of(report_of(records(**RUNS[name])), name) for name in ("ill/seed0", "level/seed0")]
    write(tmp_path / "report.html", runs)
    driver.get((tmp_path / "report.html").as_uri())
    shown = Shown(driver)
    shown.until(lambda: shown.js("return document.body.dataset.drawn"))
    return shown


def test_the_list_has_each_run_with_its_verdict_its_ratio_and_its_score_the_gravest_first(tab):
    rows = tab.texts("[role=option]")
    assert rows[0].startswith("ill/seed0vanishingfirst/last 1.0e-22")  # 0.01 to the power of 11
    assert rows[0].endswith("test accuracy 0.125")
    assert next(row for row in rows if row.startswith("broken")).startswith("brokennan")
    assert sorted(row.split("healthy")[0] for row in rows if "healthy" in row) == ["level/seed0", "level/seed1"]
    assert any(row.startswith("timedvanishing through timeh_1/h_10 1e-08") for row in rows)
    assert any(row.startswith("oldunknown") for row in rows)


def test_one_glance_tells_which_run_is_ill_and_where(tab):
    words = tab.texts(".headline p")[:2]
    assert any(w.startswith("ill/seed0 vanishing net.hidden.0.linear gets 1e-22 times") for w in words)
    assert (
        tab.js("return document.querySelector('.map[data-run=\"ill/seed0\"] .box').getAttribute('class')") == "box ill"
    )
    # The mark at the map's edge is at the lowest row.
    mark, box = (
        tab.js(f"return document.querySelector('.map[data-run=\"ill/seed0\"] {part}').getBBox()")
        for part in (".where", ".box")
    )
    assert mark["y"] + mark["height"] == pytest.approx(box["y"] + box["height"], abs=1)


def test_maps_share_one_scale_and_have_the_input_below(tab):
    assert tab.pixel("ill/seed0", 0.5, 0) == DARKEST
    assert tab.pixel("ill/seed0", 0.5, 11) == BRIGHTEST
    assert tab.pixel("level/seed0", 0.5, 0) == BRIGHTEST
    # 1e-9 is half way from 1e-18, where the scale ends, to 1: the middle of viridis is 33, 145, 140.
    between = [(a + b) / 2 for a, b in zip(tab.pixel("ill/seed0", 0.5, 6), tab.pixel("ill/seed0", 0.5, 7), strict=True)]
    assert between == pytest.approx([33, 145, 140], abs=8)
    assert tab.pixel("broken", 1.0, 0) == [255, 0, 255]
    assert tab.pixel("broken", 0.5, 0) != [255, 0, 255]
    ticks = tab.texts(".legend text")
    assert ticks[:2] == ["large", "small"]
    assert {"10⁻¹⁵", "10⁻¹⁰", "10⁰", "NaN or ∞"} <= set(ticks)
    assert "10⁻²⁰" not in ticks


def test_layers_are_named_from_the_input_and_steps_run_to_the_last(tab):
    names = tab.texts(".maps .rows text")[:14]
    assert [name for name in names if name not in ("loss", "input")] == SHORT
    lowest = tab.js(
        "return [...document.querySelectorAll('.maps .rows text')].slice(0, 12).map((t) => Number(t.getAttribute('y')))"
    )
    assert lowest == sorted(lowest, reverse=True)
    assert tab.js("return document.querySelector('input[type=range]').max") == str(len(STEPS) - 1)
    assert tab.texts("output") == ["60"]


def test_depth_is_a_line_for_each_run_and_one_for_seeds_with_their_spread(tab):
    groups = tab.js("return [...document.querySelectorAll('.depth .curve')].map((g) => g.dataset.group)")
    assert sorted(groups) == ["broken", "ill", "level", "old", "timed"]
    assert tab.js("return document.querySelectorAll('.depth [data-group=level] polygon').length") == 1
    assert tab.js("return document.querySelectorAll('.depth [data-group=ill] polygon').length") == 0
    line = tab.js("return document.querySelector('.depth [data-group=ill] path').getAttribute('d')")
    points = [tuple(map(float, point.split())) for point in line.replace("M", "L").split("L")[1:]]
    assert len(points) == len(LAYERS)
    slopes = [b[1] - a[1] for a, b in pairwise(points)]
    assert slopes == pytest.approx([slopes[0]] * 11, abs=0.2)
    assert slopes[0] < 0  # up, towards the loss
    assert tab.texts(".depth .odd") == ["✕"]


def test_a_step_is_chosen_with_the_arrow_keys(tab):
    tab.js("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}))")
    assert tab.texts("output") == ["40"]
    assert tab.texts(".depth .odd") == []  # it broke after that


def test_a_click_shows_one_run_and_shift_compares_it(tab):
    tab.click("level/seed0")
    maps = "return [...document.querySelectorAll('.map')].map((m) => m.dataset.run)"
    assert tab.js(maps) == ["level/seed0"]
    # Alone it is as bright as beside an ill one: what is level looks level.
    assert tab.pixel("level/seed0", 0.5, 0) == BRIGHTEST
    assert tab.texts(".maps .legend text")[:8] == [
        "large",
        "small",
        *(f"10{power}" for power in ("⁻⁶", "⁻⁵", "⁻⁴", "⁻³", "⁻²", "⁻¹")),
    ]
    tab.click("ill/seed0", shift=True)
    assert tab.js(maps) == ["ill/seed0", "level/seed0"]
    assert tab.pixel("level/seed0", 0.5, 0) == BRIGHTEST


def test_another_quantity_has_another_scale_and_other_runs(tab):
    tab.choose("saturated_share")
    assert "saturated share, by layer and step" in tab.texts(".panel h2")
    assert tab.pixel("ill/seed0", 0.5, 0, rows=11) is not None
    assert "old" not in tab.js("return [...document.querySelectorAll('.map')].map((m) => m.dataset.run)")


def test_hovering_tells_layer_step_and_value_and_a_click_opens_the_layer(tab):
    code = """
      const box = document.querySelector('image.cells[data-run="ill/seed0"]').getBoundingClientRect();
      const at = {clientX: box.left + 0.999 * box.width, clientY: box.bottom - 2, bubbles: true};
      document.querySelector('.maps').dispatchEvent(new MouseEvent(arguments[0], at));
    """
    tab.js(code, "mousemove")
    assert tab.texts(".tip div") == ["ill/seed0", "hidden.0, step 60", "1.0e-22"]
    tab.js(code, "click")
    tab.until(lambda: tab.texts(".layer h2") == ["layer hidden.0"])
    shown = tab.js("return [...document.querySelectorAll('.layer figure')].map((f) => f.dataset.quantity)")
    assert shown == ["delta", "gradient_norm", "update_ratio", "saturated_share", "histogram"]
    menu = "return [...document.querySelector('[aria-label=quantity]').options].map((o) => o.value)"
    assert tab.js(menu) == shown[:-1]
    assert len(tab.js("return [...document.querySelectorAll('.histogram rect.bar')]")) == 2
    assert tab.js("return document.querySelectorAll('.layer [data-quantity=delta] [data-run]').length") == 5


def test_of_many_layers_all_are_there_and_each_opens(deep):
    assert deep.pixel("deep", 0.5, 0, rows=60) == DARKEST
    names = deep.texts(".maps .rows text")
    assert names[0] == "b.0.a.projection"
    assert len(names) == len(set(names)) < 30
    code = """
      const box = document.querySelector('image.cells').getBoundingClientRect();
      const at = {clientX: box.right - 2, clientY: box.bottom - 7.5 / 60 * box.height, bubbles: true};
      document.querySelector('.maps').dispatchEvent(new MouseEvent(arguments[0], at));
    """
    deep.js(code, "mousemove")
    assert deep.texts(".tip div") == ["deep", "blocks.7.attention.projection, step 60", "1.0e-52"]
    deep.js(code, "click")
    deep.until(lambda: deep.texts(".layer h2") == ["layer blocks.7.attention.projection"])
    shown = deep.js("return [...document.querySelectorAll('.layer figure')].map((f) => f.dataset.quantity)")
    assert shown == ["delta", "gradient_norm", "update_ratio", "saturated_share", "histogram"]
    assert len(deep.js("return [...document.querySelectorAll('.histogram rect.bar')]")) == 2


def test_playing_moves_the_step_to_the_last(tab):
    tab.js("document.querySelector('input[type=range]').value = 0")
    tab.js("document.querySelector('input[type=range]').dispatchEvent(new Event('input'))")
    assert tab.texts("output") == ["0"]
    assert not tab.js("return document.querySelector('.marker').classList.contains('at-end')")
    # Eight seconds are long for a test: the clock of the page is set forward.
    tab.js("const now = performance.now(); performance.now = () => now")
    tab.js("document.querySelector('.play').click()")
    assert tab.texts(".play") == ["❚❚"]
    tab.js("const now = performance.now(); performance.now = () => now + 4000")
    tab.until(lambda: tab.texts("output") == [str(STEPS[len(STEPS) // 2 + 1])])
    tab.js("const now = performance.now(); performance.now = () => now + 9000")
    tab.until(lambda: tab.texts("output") == ["60"])
    assert tab.texts(".play") == ["▶"]
    assert tab.js("return document.querySelector('.marker').classList.contains('at-end')")


def test_the_pointer_on_a_run_s_name_fades_the_others(tab):
    hover = "document.querySelector(arguments[0]).dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))"
    tab.js(hover, "[role=option][data-run='ill/seed0']")
    maps = "return [...document.querySelectorAll('.map:not(.faded)')].map((m) => m.dataset.run)"
    lines = "return [...document.querySelectorAll('.depth .curve:not(.faded)')].map((m) => m.dataset.group)"
    assert (tab.js(maps), tab.js(lines)) == (["ill/seed0"], ["ill"])
    tab.js(hover, ".headline")
    assert len(tab.js(maps)) == len(RUNS) + 2  # the old one, and that of time


def test_time_is_shown_for_recurrent_layers(tab):
    tab.click("timed")
    assert tab.js("return document.querySelectorAll('.chart.time .curve').length") == 1
    assert "Through time, by step" in tab.texts(".panel h2")
    colours = tab.driver.execute_async_script(PIXEL.replace(".cells[", ".cells[", 1), "timed", 0.5, 0, 12)
    assert colours["height"] == 12
    heads = tab.js("return [...document.querySelectorAll('.maps')].map((m) => m.getAttribute('aria-label'))")
    assert heads == ["gradient δ = ∂L/∂z (RMS), by layer and step", "Through time, by step"]


def test_a_card_has_evidence_cause_remedies_and_the_line_of_the_recipe(tab):
    card = tab.texts(".card[data-run='ill/seed0'] [data-finding=vanishing]")[0]
    assert "net.hidden.0.linear gets 1e-22 times the gradient that net.output gets" in card
    assert "Why: each layer multiplies the gradient" in card
    assert "residual connectionsmodel.residual: true" in card
    assert tab.texts(".card[data-run='ill/seed0'] code") == ["model.residual: true"]


def test_little_room_shows_what_tells_runs_apart(driver, tmp_path):
    names = [
        "a,depth=3,warmup=0/seed0",
        "a,depth=9,warmup=0/seed0",
        "b,depth=3,warmup=0/seed0",
        "b,depth=3,warmup=0/seed1",
    ]
    write(tmp_path / "report.html", [run_of(report_of(records(0.9)), name) for name in names])
    driver.get((tmp_path / "report.html").as_uri())
    shown = Shown(driver)
    shown.until(lambda: shown.js("return document.body.dataset.drawn"))
    heads = shown.texts(".map .head")
    assert sorted(heads)[:2] == ["a,depth=3", "a,depth=9"]
    assert len(set(heads)) == 4


def test_a_run_that_explodes_leaves_the_others_bright(driver, tmp_path):
    runs = {"level": records(1.0), "exploding": records(100.0)}
    write(tmp_path / "report.html", [run_of(report_of(found), name) for name, found in runs.items()])
    driver.get((tmp_path / "report.html").as_uri())
    shown = Shown(driver)
    shown.until(lambda: shown.js("return document.body.dataset.drawn"))
    level, above = shown.pixel("level", 0.5, 0), shown.pixel("exploding", 0.5, 0)
    assert level == shown.pixel("exploding", 0.5, 11)  # 1 in both
    assert level[1] > 200  # bright, though the other reaches 1e22
    assert above == [213, 94, 0]
    assert shown.texts(".maps .legend text")[-1] == "above 10¹"
    swatch = "return getComputedStyle([...document.querySelectorAll('.maps .legend .box')].at(-1)).fill"
    assert shown.js(swatch) == "rgb(213, 94, 0)"


def test_a_loss_that_falls_on_is_told_and_is_no_illness(driver, tmp_path):
    one = run_of(report_of(records(**RUNS["ill/seed0"])), "a")
    changes = {"name": "not done yet", "evidence": "the loss falls on", "layers": []}
    changed = {"verdict": "not done yet", "findings": [one["findings"][0] | changes]}
    write(tmp_path / "report.html", [one | changed | {"name": f"run{k}"} for k in range(4)])
    driver.get((tmp_path / "report.html").as_uri())
    shown = Shown(driver)
    shown.until(lambda: shown.js("return document.body.dataset.drawn"))
    assert shown.texts(".headline p")[0] == "run0 not done yet the loss falls on"
    assert shown.texts(".headline p")[3] == "1 more has findings, below"
    every = "return [...document.querySelectorAll('.headline, .card, .chip, .box')].map((e) => e.getAttribute('class'))"
    assert not [names for names in shown.js(every) if "ill" in names.split(" ")]
    assert shown.texts(".card > h2 .chip") == ["not done yet"] * 4


def test_terms_are_explained_on_hover(tab):
    unknown = tab.js("return [...document.querySelectorAll('.term')].filter((t) => !t.dataset.term).length")
    assert unknown == 0
    tab.js("document.querySelector('.chip.ill').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))")
    assert "shrinks from layer to layer" in tab.texts(".tip")[0]


def test_it_is_dark_where_tensorboard_is(tab, driver):
    paper = "return getComputedStyle(document.querySelector('.panel')).backgroundColor"
    assert tab.js(paper) == "rgb(255, 255, 255)"
    tab.js("window.parent.document.body.classList.add('dark-mode')")
    tab.until(lambda: tab.js(paper) == "rgb(48, 48, 48)")


@pytest.mark.parametrize("width", [1000, 1400, 1920])
def test_nothing_is_wider_than_the_window(tab, driver, width):
    driver.switch_to.default_content()
    driver.set_window_size(width, 1000)
    driver.switch_to.frame(
        tab.js("return [...document.querySelectorAll('iframe')].find((f) => f.src.includes('name=gradients'))")
    )
    tab.until(lambda: tab.js("return document.querySelector('.maps').getBoundingClientRect().right <= innerWidth"))
    assert tab.js("return document.documentElement.scrollWidth <= innerWidth")
    edges = tab.js("return [...document.querySelectorAll('.maps .box')].map((b) => b.getBoundingClientRect().right)")
    assert max(edges) < width
    driver.set_window_size(1400, 1000)


def test_tables_and_drawings_can_be_saved(disk):
    code = """
      const made = [];
      URL.createObjectURL = (blob) => { made.push(blob); return "#"; };
      const panel = document.querySelector(".maps").closest(".panel");
      for (const button of panel.querySelectorAll(".save")) button.click();
      const done = arguments[0];
      const wait = () => made.length < 3 ? setTimeout(wait, 50)
        : Promise.all(made.map(async (b) => [b.type, b.size, b.type === "image/png" ? "" : await b.text()])).then(done);
      wait();
    """
    saved = {kind: (size, text) for kind, size, text in disk.driver.execute_async_script(code)}
    assert saved.keys() == {"text/csv", "image/svg+xml", "image/png"}
    lines = saved["text/csv"][1].splitlines()
    assert lines[0] == "run,layer,step,gradient δ = ∂L/∂z (RMS)"
    # Numbers for programs: with all digits that are kept, and without the words of the page.
    numbers = {(run, layer, step): float(value) for run, layer, step, value in (line.split(",") for line in lines[1:])}
    assert numbers["ill/seed0", "hidden.0", "60"] == pytest.approx(1e-22, rel=1e-3)
    assert numbers["ill/seed0", "output", "60"] == 1
    assert len(lines) == 1 + 2 * len(LAYERS) * len(STEPS)
    assert saved["image/svg+xml"][1].startswith("<svg")
    assert "hidden.0" in saved["image/svg+xml"][1]
    assert saved["image/png"][0] > 5000


def test_a_page_from_disk_shows_what_the_tab_shows(disk):
    assert disk.texts("[role=option] .name") == ["ill/seed0", "level/seed0"]
    assert disk.pixel("ill/seed0", 0.5, 0) == DARKEST
    assert disk.pixel("level/seed0", 0.5, 0) == BRIGHTEST
    assert disk.js("return performance.getEntriesByType('resource').length") == 0
    assert not [line for line in disk.driver.get_log("browser") if line["level"] == "SEVERE"]


def test_a_page_in_a_frame_that_may_do_little_is_drawn_as_well(driver, tmp_path):
    cell = report_of(records(0.01))._repr_html_()
    (tmp_path / "cell.html").write_text(f"<!doctype html><meta charset='utf-8'><body>{cell}")
    driver.get((tmp_path / "cell.html").as_uri())
    driver.switch_to.frame(driver.find_element("tag name", "iframe"))
    shown = Shown(driver)
    shown.until(lambda: shown.js("return document.body && document.body.dataset.drawn"))
    assert shown.pixel("report", 0.5, 0) == DARKEST
    driver.switch_to.default_content()


@pytest.mark.parametrize(
    "path", ["../plugin.py", "%2e%2e/plugin.py", "..%2fplugin.py", "/etc/passwd", "static/app.js", "plugin.py"]
)
def test_no_path_leads_elsewhere(address, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{address}data/plugin/gradients/{path}")
    error.value.close()
    assert error.value.code == 404


@pytest.mark.parametrize(("count", "depth", "points"), [(1, 3, 1), (30, 3, 5), (2, 400, 9)])
def test_many_runs_and_deep_ones_are_drawn(driver, tmp_path, count, depth, points):
    layers = [f"net.{k}.linear" for k in range(depth)]
    values = {layer: 0.9**k for k, layer in enumerate(layers)}
    found = [Record(s, 0.0, {"delta_rms": values, "delta_norm": values}, {"gradient_norm": 1.0}) for s in range(points)]
    write(tmp_path / "report.html", [run_of(report_of(found), f"run{k}") for k in range(count)])
    driver.get((tmp_path / "report.html").as_uri())
    shown = Shown(driver)
    shown.until(lambda: shown.js("return document.body.dataset.drawn"))
    assert shown.js("return document.querySelectorAll('image.cells').length") == count
    assert shown.pixel("run0", 0.0, 0, rows=depth) == BRIGHTEST if depth == 200 else True
    assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
