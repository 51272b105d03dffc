"""What a run looks like in a real TensorBoard, in a real browser."""

import os
import re
import time
from pathlib import Path

import pytest

from tests.tab import browser, tensorboard
from unvanish.command.main import main
from unvanish.gradients.show.events import CHARTS

pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
pytestmark = pytest.mark.browser

LAYERS = ("hidden.0", "hidden.1", "output")
PAGES = ("timeseries", "scalars", "custom_scalars", "images", "histograms", "text", "hparams")
# Most pages are made of shadow trees, which no selector of the document reaches.
LOOK = """
const seen = {text: [], images: [], curves: 0};
const visit = (node) => {
  if (node.nodeType === Node.TEXT_NODE) {
    const words = node.textContent.trim();
    if (words && node.parentElement && node.parentElement.getClientRects().length) seen.text.push(words);
    return;
  }
  if (['SCRIPT', 'STYLE', 'TEMPLATE'].includes(node.nodeName)) return;
  if (node.nodeName === 'IMG') seen.images.push([node.naturalWidth, node.naturalHeight]);
  if (['line', 'outline'].includes(node.className?.baseVal) && node.getAttribute('d')?.length > 100) seen.curves += 1;
  if (node.shadowRoot) visit(node.shadowRoot);
  node.childNodes.forEach(visit);
};
visit(document.body);
return seen;
"""


class Page:
    """A page of a running TensorBoard, as the browser shows it."""

    def __init__(self, driver, url, pictures):
        self.driver, self.url, self.pictures = driver, url, pictures

    def open(self, name, is_complete, query="", options=""):
        """What is seen once ``is_complete(seen)`` holds: the words, the images' sizes and how many curves are drawn."""
        deadline = time.monotonic() + 40
        seen = None
        while time.monotonic() < deadline:
            self.driver.get("about:blank")  # the fragment alone would not load the page again
            self.driver.get(f"{self.url}{query}#{name}{options}")
            again = time.monotonic() + 10
            while time.monotonic() < again:
                seen = self.driver.execute_script(LOOK)
                seen["text"] = " ".join(" ".join(seen["text"]).split()).replace(" /", "/")  # cards split their tags
                if is_complete(seen):
                    self._photograph(name)
                    return seen
                time.sleep(0.2)
        self._photograph(f"{name}_incomplete")
        pytest.fail(f"{name} shows {seen}")

    def _photograph(self, name):
        time.sleep(1)  # cards fade in
        for folder in self.pictures:
            folder.mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(folder / f"{name}.png"))


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory):
    """The log of a short quickstart run."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["fit", "-c", "quickstart", "--trainer.max_epochs=3", f"--runs={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def page(log_folder, tmp_path_factory):
    pictures = [tmp_path_factory.mktemp("pictures")]
    if folder := os.environ.get("UNVANISH_SCREENSHOTS"):
        pictures.append(Path(folder))
    with tensorboard(log_folder) as server, browser(tmp_path_factory.mktemp("profile"), (1400, 1200)) as driver:
        yield Page(driver, server, pictures)


def has(*words):
    return lambda seen: all(word in seen["text"] for word in words)


def test_time_series_shows_a_card_for_each_layer(page):
    has_cards = has(*(f"delta_log10/{layer}" for layer in LAYERS))
    # Each card has a row with the run's latest value, beside the run's own in the list.
    page.open(
        "timeseries",
        lambda seen: has_cards(seen) and len(re.findall(r"quickstart/1 -[\d.]", seen["text"])) == len(LAYERS),
        "?tagFilter=delta_log10",
    )
    cards = ["gradient/decay_per_layer", "gradient/norm", "gradient/delta_heat_map"]
    page.open("timeseries", has(*cards), "?tagFilter=gradient%2F")


def test_the_first_page_shows_what_is_read_first_above_all_else(page):
    first = ["Overview/first_over_last_log10", "Overview/loss", "Overview/score", "Overview/verdict"]
    seen = page.open("timeseries", has(*first))
    places = [seen["text"].index(tag) for tag in (*first, "activation_mean")]
    assert places == sorted(places)


def test_scalars_shows_a_chart_for_each_layer(page):
    has_tags = has(*(f"gradient_norm/{layer}" for layer in LAYERS))
    page.open(
        "scalars",
        lambda seen: has_tags(seen) and seen["curves"] >= 2 * len(LAYERS),  # smoothed and as they are
        options="&tagFilter=gradient_norm",
    )


def test_custom_scalars_shows_all_layers_in_a_chart_of_each_quantity(page):
    quantities = [quantity for quantity in CHARTS if quantity not in ("saturated_share", "dead_share", "stream_norm")]
    sums = ["Overview/loss", "Overview/first_over_last_log10", "gradient/decay_per_layer", "gradient/norm"]
    has_titles = has("gradients by layer", "dead_share", *sums, *quantities)
    # Two layers are followed by a ReLU; each curve is there twice, smoothed and as it is.
    curves = 2 * (len(sums) + 2 + len(LAYERS) * len(quantities))
    seen = page.open("custom_scalars", lambda seen: has_titles(seen) and seen["curves"] == curves)
    assert seen["text"].count(f"Matches ({len(LAYERS)})") == len(quantities)


def test_images_shows_the_heat_map(page):
    seen = page.open(
        "images",
        lambda seen: has("gradient/delta_heat_map")(seen) and {640, 680} <= {width for width, _ in seen["images"]},
    )
    assert min(height for _, height in seen["images"]) > 100


def test_histograms_shows_the_gradients_of_each_layer(page):
    has_tags = has(*(f"gradient_log10/{layer}" for layer in LAYERS))
    page.open("histograms", lambda seen: has_tags(seen) and seen["curves"] >= len(LAYERS))


def test_text_shows_the_verdict(page):
    seen = page.open("text", has("gradient/verdict", "healthy"))
    assert "times the gradient that output gets" in seen["text"]


def test_hparams_shows_the_run_in_a_row(page):
    seen = page.open("hparams", has("Trial ID", "quickstart/1", "best_score", "recipe"))
    # What is not the default comes first, then all else by name.
    assert re.search(r"quickstart/1 \[64, 64\] 0\.0010* quickstart relu", seen["text"])
