"""What the tab's endpoints answer, by value, over TensorBoard's own reading of event files."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins import base_plugin
from torch.utils.tensorboard import SummaryWriter
from werkzeug.test import Client

from unvanish.gradients import Record, Report
from unvanish.gradients.show.events import EventWriter
from unvanish.page.matrix import unpacked
from unvanish.tensorboard_plugin.plugin import GradientsPlugin

ROOT = Path(__file__).parents[2]
LAYERS = [f"hidden.{k}" for k in range(12)]


class Context:
    """What TensorBoard gives a plugin."""

    def __init__(self, folder):
        multiplexer = plugin_event_multiplexer.EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(folder))
        multiplexer.Reload()
        self.data_provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))


class Tab:
    """The tab of a folder of runs."""

    def __init__(self, folder):
        self.plugin = GradientsPlugin(Context(folder))
        self.apps = self.plugin.get_plugin_apps()

    def ask(self, route, method="get", **parameters):
        return getattr(Client(self.apps[route]), method)(route, query_string=parameters)

    def get(self, route, **parameters):
        answer = self.ask(route, **parameters)
        assert answer.status_code == 200, answer.text
        assert answer.content_type == "application/json"
        return json.loads(answer.text)


def write_old(folder, points=3):
    """As files were before the tab: scalars and texts alone; layers do not come in their order."""
    with SummaryWriter(str(folder)) as writer:
        for step in range(points):
            for place in (10, 9, 2):
                writer.add_scalar(f"delta_log10/hidden.{place}", -2.0 * place - step, step)
                writer.add_scalar(f"delta_rms/hidden.{place}", 10.0 ** (-2.0 * place - step), step)
            writer.add_scalar("delta_log10/output", -1.0, step)
            writer.add_scalar("gradient/first_over_last", 10.0 ** (-5 - step), step)
            for t in (1, 100):
                writer.add_scalar(f"dh_norm/hidden.2/t{t:04}", 10.0 ** (t / 50), step)
        writer.add_scalar("val/accuracy", 0.5, 1)
        words = (
            "**vanishing** after 3 steps: it is 1e-7 of it.\n\n**Why:** it shrinks.\n\n**Try** ReLU, a norm."
            "\n\n**dead units** after 3 steps: half of them.\n\n**Why:** they give 0.\n\n**Try** leaky ReLU."
        )
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        text = TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(), string_val=[words.encode()])
        value = Summary.Value(tag="gradient/verdict", metadata=metadata, tensor=text)
        writer._get_file_writer().add_summary(Summary(value=[value]), 2)


def write_new(folder, names=LAYERS, test=None):
    """As the monitor writes them, with what the tab has to know."""
    report = Report()
    with SummaryWriter(str(folder)) as writer:
        events = EventWriter(writer)
        for step in range(12):
            deltas = {name: 10.0 ** (place - len(names)) for place, name in enumerate(names)}
            values = dict.fromkeys(("delta_rms", "delta_norm", "gradient_norm"), deltas)
            values["dead_share"] = dict.fromkeys(names, 0.25)
            counts = [0] * 512
            counts[127] = 4
            record = Record(step, 1.0 + step, values, {"gradient_norm": 1.0}, histograms={names[0]: counts})
            report.add([record])
            events.write(record, {"gradient/first_over_last": 1e-11})
        events.tell(report)
        if test is not None:
            writer.add_scalar("test/accuracy", test, 12)


@pytest.fixture
def tab(tmp_path):
    write_old(tmp_path / "old")
    # An order that no name tells.
    write_new(tmp_path / "new", [f"net.{name}" for name in ("enter", "zeta", "alpha", *"bcdefg", "leave")], test=0.75)
    with SummaryWriter(str(tmp_path / "other")) as writer:
        writer.add_scalar("train/loss", 1.0, 0)
    return Tab(tmp_path)


def test_runs_are_those_with_gradients(tab):
    new, old = tab.get("/runs")
    assert (new["name"], old["name"]) == ("new", "old")
    assert new["layers"] == ["enter", "zeta", "alpha", *"bcdefg", "leave"]
    assert (new["verdict"], new["steps"], new["stamp"]) == ("vanishing", 12, 12)
    assert new["score"] == {"name": "test accuracy", "value": 0.75}
    assert new["findings"][0]["layers"] == ["enter"]
    assert new["titles"] == {
        "delta": "gradient δ = ∂L/∂z (RMS)",
        "gradient_norm": "weight gradient ∂L/∂W (norm)",
        "dead_share": "dead share",
    }


def test_an_old_run_is_told_by_its_texts_and_its_layers_are_sorted_as_people_count(tab):
    _, old = tab.get("/runs")
    assert old["layers"] == ["hidden.2", "hidden.9", "hidden.10", "output"]
    assert (old["verdict"], old["evidence"], old["steps"]) == ("vanishing", "it is 1e-7 of it", 3)
    assert [finding["name"] for finding in old["findings"]] == ["vanishing", "dead units"]
    assert old["findings"][0]["cause"] == "it shrinks."
    assert old["findings"][0]["remedies"] == ["ReLU", "a norm"]
    assert old["first_over_last"] == {"start": pytest.approx(1e-5), "end": pytest.approx(1e-7)}
    assert old["score"] == {"name": "validation accuracy", "value": 0.5}
    assert old["recurrent"] == ["hidden.2"]


def test_a_matrix_is_the_logarithm_by_layer_from_the_input_and_by_step(tab):
    found = tab.get("/matrix", run=["new", "old"], quantity="delta", points=1000)
    assert found["new"]["layers"] == ["enter", "zeta", "alpha", *"bcdefg", "leave"]
    assert found["new"]["steps"] == [*range(12)]
    assert unpacked(found["new"])["alpha"][7] == pytest.approx(-8, abs=1e-3)
    assert found["old"]["layers"] == ["hidden.2", "hidden.9", "hidden.10", "output"]
    assert unpacked(found["old"])["hidden.10"] == pytest.approx({0: -20, 1: -21, 2: -22}, abs=1e-3)
    shares = tab.get("/matrix", run="new", quantity="dead_share", points=1000)["new"]
    assert not shares["log"]
    assert unpacked(shares)["leave"][3] == 0.25


def test_few_points_are_the_same_steps_of_every_layer(tmp_path):
    write_old(tmp_path / "run", points=60)
    matrix = Tab(tmp_path).get("/matrix", run="run", quantity="delta", points=7)["run"]
    assert len(matrix["steps"]) == 7
    assert matrix["steps"][-1] == 59
    assert all(len(row) == 7 for row in unpacked(matrix).values())


def test_times_are_a_matrix_by_t(tab):
    found = tab.get("/times", run=["new", "old"])
    assert found["new"] == {}
    assert found["old"]["hidden.2"]["layers"] == ["1", "100"]
    assert unpacked(found["old"]["hidden.2"])["100"] == pytest.approx({0: 2, 1: 2, 2: 2}, abs=1e-3)


def test_a_layer_is_all_its_curves_and_its_last_histogram(tab):
    found = tab.get("/layer", run="new", layer="enter")
    assert [*found["quantities"]] == ["delta", "gradient_norm", "dead_share"]
    assert unpacked(found["quantities"]["delta"])["enter"][11] == pytest.approx(-10, abs=1e-3)
    ((low, high, count),) = found["histogram"]["buckets"]
    assert (low, high, count) == (0.0, pytest.approx(0.30103), 4)  # from 1 to 2
    assert tab.get("/layer", run="old", layer="output")["histogram"] is None


def test_names_are_data_and_nothing_else(tmp_path):
    write_new(tmp_path / "a run & <b>", ["net.<i>x</i>", "net.y"])
    tab = Tab(tmp_path)
    (run,) = tab.get("/runs")
    assert run["name"] == "a run & <b>"
    assert run["layers"] == ["<i>x</i>", "y"]
    assert tab.get("/layer", run="a run & <b>", layer="<i>x</i>")["quantities"]


@pytest.mark.parametrize(
    ("route", "parameters", "code", "words"),
    [
        ("/matrix", {"run": "nobody", "quantity": "delta", "points": 9}, 404, "no run nobody with gradients"),
        ("/matrix", {"run": "other", "quantity": "delta", "points": 9}, 404, "no run other with gradients"),
        ("/matrix", {"run": "../old", "quantity": "delta", "points": 9}, 404, "no run ../old with gradients"),
        ("/matrix", {"run": "old", "quantity": "val", "points": 9}, 404, "no val in old"),
        ("/matrix", {"quantity": "delta", "points": 9}, 400, "run is given 0 times"),
        ("/matrix", {"run": ["old"] * 101, "quantity": "delta", "points": 9}, 400, "run is given 101 times"),
        ("/matrix", {"run": "old", "quantity": "delta"}, 400, "points is given 0 times"),
        ("/matrix", {"run": "old", "quantity": "delta", "points": "1e9"}, 400, "points is 1e9; it must be 1 to 1000"),
        ("/matrix", {"run": "old", "quantity": "delta", "points": 1001}, 400, "points is 1001"),
        ("/matrix", {"run": "old", "quantity": ["delta", "x"], "points": 9}, 400, "quantity is given 2 times"),
        ("/times", {"run": "nobody"}, 404, "no run nobody"),
        ("/layer", {"run": "old", "layer": "hidden.3"}, 404, "no layer hidden.3 in old"),
        ("/layer", {"run": "old"}, 400, "layer is given 0 times"),
    ],
)
def test_what_is_not_there_is_said(tab, route, parameters, code, words):
    answer = tab.ask(route, **parameters)
    assert answer.status_code == code
    assert answer.content_type.startswith("text/plain")
    assert words in answer.text


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_nothing_is_taken(tab, method):
    assert tab.ask("/runs", method).status_code == 405


def test_files_are_served_by_their_names_alone(tab):
    assert "export function render()" in tab.ask("/index.js").text
    assert tab.ask("/app.js").content_type == "text/javascript; charset=utf-8"
    assert tab.ask("/style.css").content_type == "text/css; charset=utf-8"
    assert not [route for route in tab.apps if "*" in route]  # a route for whatever comes would need a guard


def test_the_tab_is_there_where_there_is_something_to_show(tab, tmp_path_factory):
    assert tab.plugin.is_active()
    assert tab.plugin.frontend_metadata().tab_name == "Gradients"
    assert not Tab(tmp_path_factory.mktemp("empty")).plugin.is_active()
    assert Tab(tmp_path_factory.mktemp("empty")).get("/runs") == []


def test_a_scalar_that_is_no_layer_is_no_quantity(tmp_path):
    with SummaryWriter(str(tmp_path / "run")) as writer:
        value = [Summary.Value(tag=tag, simple_value=1.0) for tag in ("delta_log10/a", "mine/a", "train/loss")]
        writer._get_file_writer().add_summary(Summary(value=value), 0)
    (run,) = Tab(tmp_path).get("/runs")
    assert [*run["titles"]] == ["delta", "mine"]
    assert run["verdict"] == "unknown"


@pytest.mark.slow
def test_the_package_brings_it_to_tensorboard_which_does_not_wait_for_torch():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["tensorboard_plugins"]
    assert EntryPoint("gradients", points["gradients"], "tensorboard_plugins").load() is GradientsPlugin
    code = "import sys, unvanish.tensorboard_plugin.plugin; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


#: Ways out of a folder, as browsers and others write them.
OUT = [
    *("../plugin.py", "../../trust.py", "..%2fplugin.py", "%2e%2e/plugin.py", "....//plugin.py", "..\\plugin.py"),
    *("/etc/passwd", "//etc/passwd", "app.js/../../plugin.py", "app.js%00.py", "static/app.js", "./app.js/", "APP.JS"),
]


def test_nothing_is_served_but_what_is_named(tmp_path):
    write_old(tmp_path / "runs/a")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "runs/secret.txt").write_text("secret")
    provider = Context(tmp_path / "runs").data_provider
    tensorboard = TensorBoardWSGI(
        [GradientsPlugin(base_plugin.TBContext(data_provider=provider))], data_provider=provider
    )
    client, place = Client(tensorboard), "/data/plugin/gradients"
    assert client.get(f"{place}/app.js").status_code == 200
    for path in OUT:
        answer = client.get(f"{place}/{path}")
        assert answer.status_code == 404, path
        assert "import" not in answer.text, path
    for route, parameters in (
        ("matrix", {"run": "../../secret.txt", "quantity": "delta_log10", "points": "5"}),
        ("matrix", {"run": str(tmp_path / "secret.txt"), "quantity": "../../secret.txt", "points": "5"}),
        ("times", {"run": "../secret.txt"}),
        ("layer", {"run": "a", "layer": "../../secret.txt"}),
    ):
        answer = client.get(f"{place}/{route}", query_string=parameters)
        assert "secret" not in answer.text.replace("secret.txt", ""), route
        assert answer.status_code in (200, 400, 404), (route, answer.text)
