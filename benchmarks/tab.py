"""How long TensorBoard's tab Gradients takes to show six runs of 100 layers and 1,000 points: python -m benchmarks.tab.

From the frame's first request to the end of its first drawing, in a headless Chromium, data server and page together;
TensorBoard has read the files before. Needs chromium and chromedriver.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from tests.tab import browser, tensorboard

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


def main() -> int:
    """Write the runs, show them several times and print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.runs):
            write_run(Path(folder) / f"run{index}", index, options.layers, options.points)
        with tensorboard(Path(folder)) as address, browser(Path(folder) / "profile") as driver:
            times = [shown(driver, address) for _ in range(options.times + 1)][1:]  # the first reads the files
    size = f"{options.runs} runs of {options.layers} layers and {options.points:,} points"
    print(f"{size}: {statistics.median(times):.2f} s, median of {len(times)} ({min(times):.2f} to {max(times):.2f})")
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
