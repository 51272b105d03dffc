"""What a notebook that is really executed shows of a diagnosis, a verdict and a report."""

import base64

import pytest

nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat")
nbclient = pytest.importorskip("nbclient", reason="notebooks are executed by nbclient")
pytest.importorskip("ipykernel", reason="notebooks are executed in ipykernel")

DIAGNOSIS = """
import torch
from torch import nn
import unvanish

torch.manual_seed(0)
x, y = torch.randn(13, 7), torch.randint(3, (13,))
layers = [part for _ in range(11) for part in (nn.Linear(7, 7), nn.Sigmoid())]
network = nn.Sequential(*layers, nn.Linear(7, 3))
found = unvanish.diagnose(network, (x, y), nn.functional.cross_entropy)
found
"""
REPORT = """
from unvanish import GradientRecorder
from unvanish.gradients import Report

report, optimizer = Report(), torch.optim.SGD(network.parameters(), 0.1)
with GradientRecorder(network) as recorder:
    for step in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        recorder.before_backward(loss)
        loss.backward()
        recorder.before_step(step)
        optimizer.step()
        recorder.after_step(optimizer)
    report.add(recorder.flush())
report
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """By mime type what each cell shows."""
    cells = [nbformat.v4.new_code_cell(code) for code in (DIAGNOSIS, "found.verdict", REPORT)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [dict(output.data) for cell in notebook.cells for output in cell.outputs if "data" in output]


@pytest.mark.slow
def test_each_is_a_page_a_picture_and_a_line(shown):
    assert len(shown) == 3
    for place, data in enumerate(shown):
        assert set(data) == {"text/html", "image/png", "text/plain"}
        assert data["text/html"].startswith("<iframe srcdoc=")
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert ("Diagnosis(", "Verdict(", "Report(")[place] == data["text/plain"].partition("(")[0] + "("
        assert "vanishing" in data["text/plain"]


@pytest.mark.slow
def test_none_of_them_makes_a_notebook_large(shown):
    for data in shown:
        assert len(data["text/plain"]) < 200
        assert "\n" not in data["text/plain"]
        assert len(data["image/png"]) < 100_000
        assert len(data["text/html"]) < 150_000
