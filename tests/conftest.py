import pytest
import torch

torch.set_num_threads(1)  # the tests run side by side, one process a core


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
