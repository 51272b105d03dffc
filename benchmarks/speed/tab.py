"""How long TensorBoard's tab Gradients takes to show six runs of 100 layers and 1,000 points.

From the frame's first request to the end of its first drawing, in a headless Chromium, data server and page together;
TensorBoard has read the files before. Needs chromium and chromedriver.
"""

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from benchmarks.speed.row import Row, in_turns
from tests.tab import browser, tensorboard

RUNS, LAYERS, POINTS = 6, 100, 1000
MARK = "return performance.getEntriesByName('drawn')[0]?.startTime"


def write_run(folder: Path, index: int, layers: int, points: int) -> None:
    """A run whose gradient shrinks from the loss to the input, by a factor of its own."""
    with SummaryWriter(str(folder)) as writer:
        for step in range(points):
            logs = [-1 - (layers - layer) * 0.05 * index + 0.3 * math.sin(step / 40 + layer) for layer in range(layers)]
            values = [Summary.Value(tag=f"delta_log10/hidden.{k}", simple_value=log) for k, log in enumerate(logs)]
            values += [
                Summary.Value(tag=f"gradient_norm/hidden.{k}", simple_value=10**log) for k, log in enumerate(logs)
            ]
            writer._get_file_writer().add_summary(Summary(value=values), step)


def rows(root: Path) -> Iterator[Row]:
    """Seconds until six runs are drawn."""
    with tempfile.TemporaryDirectory() as folder:
        for index in range(RUNS):
            write_run(Path(folder) / f"run{index}", index, LAYERS, POINTS)
        with tensorboard(Path(folder)) as address, browser(Path(folder) / "profile") as driver:
            times = in_turns({"tab": lambda: shown(driver, address)})["tab"]  # the first reads the files
    yield Row(f"the tab shows {RUNS} runs of {LAYERS} layers and {POINTS:,} points", "", times, (), "s", 1.5)


def shown(driver, address: str) -> float:
    """Seconds from the frame's first request to its first drawing, once all runs are there."""
    for _ in range(60):
        driver.get("about:blank")
        driver.get(f"{address}data/plugin_entry.html?name=gradients")
        deadline = time.monotonic() + 20
        while (mark := driver.execute_script(MARK)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if mark is not None:
            while not driver.execute_script("return document.body.dataset.whole") and time.monotonic() < deadline:
                time.sleep(0.1)  # what is still asked for would delay the next showing
            return float(mark) / 1000
    raise SystemExit("the tab has not shown the runs")
