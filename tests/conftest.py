import logging

import pytest
import torch

from tests.tab import CHROMIUM, DRIVER

torch.set_num_threads(1)  # the tests run side by side, one process a core


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def own_log():
    """A command sets the log up for its process, as a fixture's may; each test has its own."""
    log = logging.getLogger("unvanish")
    log.handlers = []
    yield
    log.handlers = []
    log.setLevel(logging.NOTSET)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if item.get_closest_marker("browser") and not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
