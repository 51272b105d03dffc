"""A real TensorBoard and a real browser, for tests and benchmarks of the tab Gradients."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
GROUP, PLUGIN = "tensorboard_plugins", "unvanish.tensorboard_plugin.plugin:GradientsPlugin"


@contextmanager
def tensorboard(log_folder):
    """The address of a TensorBoard that has the tab, whether or not the package that is installed has brought it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.environ.get("PYTHONPATH", "")
        if not entry_points(group=GROUP, value=PLUGIN):
            facts = Path(folder) / "unvanish_tab-0.dist-info"
            facts.mkdir()
            (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: unvanish_tab\nVersion: 0\n")
            (facts / "entry_points.txt").write_text(f"[{GROUP}]\ngradients = {PLUGIN}\n")
            path = os.pathsep.join([folder, path])
        output = Path(folder) / "stderr.txt"
        command = [sys.executable, "-m", "tensorboard.main", "--host=127.0.0.1", "--port=0", f"--logdir={log_folder}"]
        with output.open("w") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | {"PYTHONPATH": path})
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"at (http://\S+:\d+/)", output.read_text())):
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.1)
            yield found[1]
        finally:
            process.terminate()
            process.wait(timeout=20)


@contextmanager
def browser(profile, size=(1400, 1000)):
    """A headless Chromium that reaches nothing but this machine."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
