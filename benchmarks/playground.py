"""How long a training step of the playground takes in a headless Chromium: python -m benchmarks.playground.

Forward, backward and Adam on a batch of 64 spirals, 20 sigmoid layers of 64 units. Needs chromium and chromedriver.
"""

import functools
import http.server
import statistics
import sys
import tempfile
import threading
from pathlib import Path

from tests.tab import browser

FOLDER = Path(__file__).parents[1] / "docs" / "playground"
STEPS, SKIPPED = 200, 20  # the first steps are run before the browser has compiled them

TIMES = """
const [settings, steps, done] = arguments;
(async () => {
  const modules = await Promise.all(["training", "data", "settings"].map((name) => import(`./${name}.js`)));
  const {Training, problemOf, DEFAULTS} = Object.assign({}, ...modules);
  const training = new Training({...DEFAULTS, ...settings}, await problemOf("spirals", 0));
  const times = [];
  for (let k = 0; k < steps; k += 1) {
    const start = performance.now();
    training.train();
    times.push(performance.now() - start);
  }
  return times;
})().then(done);
"""


def main() -> int:
    """Measure and print."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=FOLDER)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser(Path(folder)) as driver:
            driver.set_script_timeout(300)
            driver.get(f"http://127.0.0.1:{server.server_port}/index.html#depth=2&width=2")
            times = driver.execute_async_script(TIMES, {"depth": 20, "width": 64, "batch": 64}, STEPS)[SKIPPED:]
        server.shutdown()
    low, high = min(times), max(times)
    print(
        f"20 layers of 64: {statistics.median(times):.1f} ms a step, median of {len(times)} ({low:.1f} to {high:.1f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
