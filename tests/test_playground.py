"""The playground in a real browser: its numbers are diagnose's and autograd's, and the page says what they mean."""

import functools
import http.server
import importlib.util
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.tab import browser
from unvanish import MLP, diagnose
from unvanish.activations import ACTIVATIONS
from unvanish.gradients.quantities.delta import DELTA_NORM
from unvanish.gradients.quantities.gradient import GRADIENT_NORM

pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[1] / "docs" / "playground"
DIGITS = {"rel": 1e-4}  # four digits

#: Runs the body with the modules at hand, and hands its value back.
MODULES = """
const [given, done] = arguments;
Promise.all(["network", "mean_field", "verdict", "optimizers", "initialization", "data", "settings"].map(
  (name) => import(new URL(`./${name}.js`, document.baseURI)),
)).then((found) => (%s)(Object.assign({}, ...found), given)).then(done, (error) => done({error: String(error)}));
"""

#: A network with the weights that are given, one batch forward and backward.
PASS = """(js, {layers, x, y, C}) => {
  const B = y.length;
  for (const layer of layers) {
    [layer.W, layer.b] = [layer.W.flat(), layer.b].map((values) => Float64Array.from(values));
    const own = layer.normalization;
    for (const name of own ? ["gain", "shift", "mean", "variance"] : []) own[name] = Float64Array.from(own[name]);
  }
  const data = Float64Array.from(x.flat());
  const seen = js.forward(layers, data, B);
  const {loss, gradient} = js.crossEntropy(seen.at(-1).out, y, B, C);
  const found = js.backward(layers, seen, gradient, B);
  const norm = (values) => Math.hypot(...values);
  const deltas = found.map((each) => norm(each.delta));
  return {
    loss, deltas, weights: found.map((each) => norm(each.dW)), theory: js.expected(layers, data, B, deltas).map(String),
    verdict: js.verdictOn(deltas, loss), parameters: js.parameters(layers, found).map(([_, g]) => [...g]),
    evaluated: [...js.forward(layers, data, B, false).at(-1).out],
  };
}"""


@pytest.fixture(scope="module")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=FOLDER)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def js(driver, address):
    driver.get(f"{address}#depth=2&width=2")

    def run(body, given=None):
        answer = driver.execute_async_script(MODULES % body, given)
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    return run


def network(activation, normalization="none", residual=False, depth=7, width=5, initialization="default"):
    torch.manual_seed(3)
    mlp = MLP((3,), 2, width, depth, activation, initialization, normalization, residual).double()
    for parameter in mlp.parameters():  # no gain is 1 and no shift is 0
        parameter.data += 0.1 * torch.randn_like(parameter) * (parameter.dim() < 2)
    return mlp, torch.randn(11, 3, dtype=torch.float64), torch.randint(2, (11,))


def as_layers(mlp):
    """A network of ours as the page's modules have it."""
    layers = []
    for block in [*mlp.hidden, mlp.output]:
        linear = getattr(block, "linear", block)
        own = getattr(block, "normalization", None)
        kind = {"BatchNorm1d": "batch", "LayerNorm": "layer"}.get(type(own).__name__)
        statistics = [own.running_mean, own.running_var] if kind == "batch" else [torch.zeros(1), torch.ones(1)]
        parts = [own.weight, own.bias, *statistics] if kind else []
        layers.append(
            {
                "n": linear.in_features,
                "m": linear.out_features,
                "W": linear.weight.tolist(),
                "b": linear.bias.tolist(),
                "activation": mlp.hparams["activation"] if block is not mlp.output else None,
                "normalization": kind
                and {"kind": kind}
                | dict(zip(("gain", "shift", "mean", "variance"), [part.tolist() for part in parts], strict=True)),
                "residual": getattr(block, "residual", False),
            }
        )
    return layers


CASES = {
    "sigmoid": {"activation": "sigmoid", "depth": 20},
    "relu, batch, residual": {"activation": "relu", "normalization": "batch", "residual": True},
    "tanh, layer": {"activation": "tanh", "normalization": "layer"},
    "selu, residual": {"activation": "selu", "residual": True},
    "silu, batch": {"activation": "silu", "normalization": "batch"},
    "leaky_relu": {"activation": "leaky_relu"},
    "gelu": {"activation": "gelu"},
    "identity": {"activation": "identity", "depth": 2},
    "exploding": {"activation": "relu", "initialization": "normal(9)"},
    "relu, batch": {"activation": "relu", "normalization": "batch", "width": 13},
}


@pytest.mark.parametrize("case", CASES)
def test_its_numbers_are_those_of_diagnose_and_of_autograd_to_four_digits(js, case):
    mlp, x, y = network(**CASES[case])
    given = {"layers": as_layers(mlp), "x": x.tolist(), "y": y.tolist(), "C": 2}
    found = js(PASS, given)
    diagnosis = diagnose(mlp, (x, y), F.cross_entropy)
    loss = F.cross_entropy(mlp.train()(x), y)
    loss.backward()
    assert found["loss"] == pytest.approx(loss.item(), **DIGITS)
    assert found["deltas"] == pytest.approx([*diagnosis.record.of(DELTA_NORM).values()], **DIGITS)
    norms, layer = diagnosis.record.of(GRADIENT_NORM), 0.0
    assert found["weights"] == pytest.approx([norms[name] for name in diagnosis.record.of(DELTA_NORM)], **DIGITS)
    for ours, parameter in zip(found["parameters"], mlp.parameters(), strict=True):
        # A bias in front of batch normalization has a gradient of 0, but for rounding.
        layer = parameter.grad.norm().item() if parameter.dim() > 1 else layer
        assert ours == pytest.approx(parameter.grad.flatten().tolist(), rel=1e-4, abs=1e-12 * layer)
    assert found["evaluated"] == pytest.approx(mlp.eval()(x).flatten().tolist(), **DIGITS)  # with running statistics
    verdict = diagnosis.verdict
    numbers = [found["verdict"][key] for key in ("ratio", "factor")]
    # The judge names causes beside it, such as weights that begin too large.
    assert found["verdict"]["name"] in {finding.name for finding in verdict.findings} or verdict.name == "healthy"
    assert (found["verdict"]["name"] == "healthy") == (verdict.name == "healthy")
    assert numbers == pytest.approx([verdict.first_over_last, verdict.factor_per_layer], **DIGITS)
    if case != "identity":  # of which autograd's graph shows the recorder nothing
        theory = {place: float(value) for place, value in enumerate(found["theory"]) if value != "NaN"}
        places = {name: place for place, name in enumerate(diagnosis.record.of(DELTA_NORM))}
        assert theory == pytest.approx({places[name]: v for name, v in diagnosis.expected.items()}, **DIGITS)


def test_its_activations_are_those_of_the_package(js):
    assert js("(js) => js.FIELDS.activation.choices") == list(ACTIVATIONS)


def test_its_verdicts_are_among_those_of_the_cases(js):
    names = {js(PASS, given_of(CASES[case]))["verdict"]["name"] for case in ("sigmoid", "exploding", "tanh, layer")}
    assert names == {"vanishing", "exploding", "healthy"}


def given_of(case):
    mlp, x, y = network(**case)
    return {"layers": as_layers(mlp), "x": x.tolist(), "y": y.tolist(), "C": 2}


OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_its_optimizers_step_as_those_of_torch(js, name):
    torch.manual_seed(0)
    w = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    gradients = torch.randn(3, 5, dtype=torch.float64)
    body = """(js, {w, gradients, name}) => {
      const [values, own] = [Float64Array.from(w), {}];
      for (const g of gradients) js.OPTIMIZERS[name](values, g, 0.01, own);
      return [...values];
    }"""
    found = js(body, {"w": w.tolist(), "gradients": gradients.tolist(), "name": name})
    optimizer = OPTIMIZERS[name]([w], lr=0.01)
    for gradient in gradients:
        w.grad = gradient.clone()
        optimizer.step()
    assert found == pytest.approx(w.tolist(), rel=1e-9)


def test_its_initializations_have_their_variances(js):
    body = """(js) => Object.keys(js.INITIALIZATIONS).map((name) => {
      const {W, b} = js.weightsOf(name, 200, 300, 2, js.randomOf(0));
      return [name, W.reduce((sum, w) => sum + w * w / W.length, 0), Math.hypot(...b)];
    })"""
    expected = {"default": 1 / 600, "xavier_normal": 2 / 500, "he_normal": 2 / 200, "lecun_normal": 1 / 200}
    for name, variance, bias in js(body):
        assert variance == pytest.approx(4 * expected[name], rel=0.02)  # a scale of 2
        assert (bias > 0) == (name == "default")


def test_the_digits_are_those_of_scikit_learn():
    spec = importlib.util.spec_from_file_location("digits", FOLDER / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_bytes() == module.content()


def test_an_address_gives_its_settings_and_what_it_cannot_give_is_said(js):
    body = """(js) => {
      const {settings, complaints} = js.fromAddress("#depth=50&residual=true&rate=0.1&width=7&colour=red&data=moons");
      return {address: js.toAddress(settings), complaints};
    }"""
    found = js(body)
    assert found["address"] == "#depth=50&residual=true&rate=0.1"
    assert [line.split(" ")[0] for line in found["complaints"]] == ["width", "colour", "data"]


class Page:
    def __init__(self, driver, url):
        self.driver = driver
        driver.get("about:blank")
        driver.get(url)
        self.until("Number(document.body.dataset.ready) >= 1")

    def js(self, code):
        return self.driver.execute_script(f"return {code}")

    def text(self, name):
        return self.js(f"document.getElementById('{name}').textContent")

    def press(self, name):
        before = self.js("Number(document.body.dataset.ready)")
        self.js(f"document.getElementById('{name}').click()")
        self.until(f"Number(document.body.dataset.ready) > {before}")

    def until(self, condition):
        deadline = time.monotonic() + 30
        while not self.js(condition):
            assert time.monotonic() < deadline, self.driver.get_log("browser")
            time.sleep(0.05)


def test_twenty_sigmoid_layers_vanish_and_each_of_the_fixes_changes_the_verdict(driver, address):
    page = Page(driver, address)
    assert page.text("name") == "vanishing"
    assert page.text("evidence").startswith("Layer 1 gets 7.3e-17 times the gradient that layer 20 gets")
    assert page.js("document.querySelectorAll('#histograms .violin').length") == 20
    page.press("fix-batch")
    assert (page.text("name"), page.js("location.hash")) == ("healthy", "#normalization=batch")
    assert page.js("document.querySelectorAll('#deltas .before').length") == 1  # the line of the network before
    page.press("fix-batch")
    page.press("fix-residual")
    assert (page.text("name"), page.js("location.hash")) == ("healthy", "#residual=true")
    page.press("fix-residual")
    page.press("fix-relu")
    page.press("fix-initialization")
    assert page.text("fix-initialization") == "He initialization"
    assert (page.text("name"), page.js("location.hash")) == ("healthy", "#activation=relu&initialization=he_normal")
    page.js("document.getElementById('one').click()")
    assert page.text("progress").startswith("After 1 step the loss is")
    hosts = page.js("performance.getEntriesByType('resource').map((e) => new URL(e.name).host)")
    assert set(hosts) == {page.js("location.host")}  # nothing from elsewhere
    assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]


def test_digits_train_until_most_of_the_held_out_ones_are_told_right(driver, address):
    page = Page(driver, f"{address}#data=digits&depth=4&activation=relu&initialization=he_normal")
    page.js("document.getElementById('train').click()")
    page.until("parseFloat(document.getElementById('accuracy').textContent) > 85")
    assert "it learns" in page.text("progress")
