import logging

import pytest
import torch

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
