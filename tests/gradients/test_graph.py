"""Order, trunks and the residual stream, as the graph of autograd tells them."""

from dataclasses import dataclass

import pytest
import torch
from autograd_twin import root
from parts import INPUTS, SAMPLES, Built, mlp, recorded, x_of
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder, Report


def test_a_hand_written_rnn_that_calls_its_output_first_explodes():
    torch.manual_seed(0)

    def run(m, x):
        h = x.new_zeros(len(x), 16)
        for x_t in x.unbind(1):
            both = torch.cat([x_t, h], 1)
            output, h = m.output(both), m.cell(both)
        return output

    model = Built(run, output=nn.Linear(20, 2), cell=nn.Linear(20, 16))
    with torch.no_grad():
        model.cell.weight[:, 4:] = 1.3 * nn.init.orthogonal_(torch.empty(16, 16))
    recorder, _, verdict = recorded(model, x_of(9, 40, 4))
    assert recorder.layers == ["cell", "output"]
    assert verdict.name == "exploding through time"


@pytest.mark.parametrize("called_last", [True, False])
def test_a_small_auxiliary_head_makes_nothing_explode(called_last):
    torch.manual_seed(0)

    def run(m, x):
        h = m.a(x)
        names = ("head", "aux") if called_last else ("aux", "head")
        found = {name: getattr(m, name)(h) for name in names}
        return found["head"] + 1e-6 * found["aux"]

    model = Built(run, a=mlp(outputs=7), head=nn.Linear(7, 2), aux=nn.Linear(7, 2))
    _, record, verdict = recorded(model)
    assert verdict.name == "healthy"
    (trunk,) = record.trunks
    assert [name for name in trunk.layers if not name.endswith("+")] == ["a.0", "a.2", "a.4", "a.6"]
    assert {*trunk.heads} == {"head", "aux"}


def test_what_vanishes_behind_an_early_exit_is_seen():
    torch.manual_seed(0)
    deep = mlp(7, hidden=15, activation=nn.Sigmoid)
    model = Built(
        lambda m, x: (m.exit(h := m.a(x)), m.deep(h)), a=nn.Linear(INPUTS, 7), exit=nn.Linear(7, 3), deep=deep
    )
    _, _, verdict = recorded(model, loss=lambda outputs: sum(output.square().mean() for output in outputs))
    assert (verdict.name, verdict.findings[0].where) == ("vanishing", "deep")
    assert verdict.evidence.startswith("deep.0 gets")


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.join(torch.cat([m.left(x), m.right(x)], 1)),
        lambda m, x: m.join(torch.cat([m.right(x), m.left(x)], 1)),
        lambda m, x: m.left(x) @ m.right(x).T,
        lambda m, x: (m.left(x), m.right(x)),
        lambda m, x: {"losses": [m.left(x).square().mean(), m.right(x).square().mean()]},
    ],
    ids=["joined", "the other way around", "product", "two losses", "losses returned"],
)
@pytest.mark.parametrize("called", [True, False], ids=["model", "parts"])
def test_of_two_towers_the_one_that_vanishes_is_named(run, called):
    torch.manual_seed(0)
    model = Built(
        run, left=mlp(outputs=7), right=mlp(outputs=7, hidden=12, activation=nn.Sigmoid), join=nn.Linear(14, 3)
    )
    report = Report()
    with GradientRecorder(model) as recorder:
        output = (model if called else model.run)(*(() if called else (model,)), x_of(SAMPLES, INPUTS))
        tensors = output["losses"] if isinstance(output, dict) else output if isinstance(output, tuple) else (output,)
        sum(tensor.square().mean() for tensor in tensors).backward()
        recorder.before_step(0)
    report.add(recorder.flush())
    assert report.end.name == "vanishing"
    assert report.end.evidence.startswith("right.0 gets")


# The residual stream


def resnet(m, x):
    x = m.stem(x).relu()
    for block in m.blocks:
        x = m.keep(block(x) + x).relu()
    return m.leave(x.mean((2, 3)))


def in_place(m, x):
    x = m.stem(x).relu()
    for block in m.blocks:
        y = block(x)
        y += x
        x = m.keep(y).relu()
    return m.leave(x.mean((2, 3)))


def pre_norm(m, x):
    h = m.stem(x)
    for attention, feed in zip(m.attention, m.feed, strict=True):
        a = F.layer_norm(h, (8,))
        h = m.keep(h + attention(a, a, a, need_weights=False)[0])
        h = m.keep(h + feed(F.layer_norm(h, (8,))))
    return m.leave(h.mean(1))


def post_norm(m, x):
    h = m.stem(x)
    for attention, feed in zip(m.attention, m.feed, strict=True):
        h = F.layer_norm(m.keep(h + attention(h, h, h, need_weights=False)[0]), (8,))
        h = F.layer_norm(m.keep(h + feed(h)), (8,))
    return m.leave(h.mean(1))


def parallel(m, x):
    h = m.stem(x)
    for a, b in zip(m.attention, m.feed, strict=True):
        h = m.keep(h + a(h, h, h, need_weights=False)[0] + b(h))
    return m.leave(h.mean(1))


def highway(m, x):
    h = m.stem(x)
    for layer, gate in zip(m.layers, m.gates, strict=True):
        g = gate(h).sigmoid()
        h = m.keep(g * layer(h).relu() + (1 - g) * h)
    return m.leave(h)


def dense(m, x):
    h = m.stem(x)
    for layer in m.grow:
        h = m.keep(torch.cat([h, layer(h).relu()], 1))
    return m.leave_dense(h)


def u_net(m, x):
    a = m.stem(x).relu()
    b = m.blocks[0](F.max_pool2d(a, 2))
    return m.up(m.keep(torch.cat([F.interpolate(b, scale_factor=2.0), a], 1))).mean((2, 3))


def scaled(m, x):
    h = m.stem(x)
    for layer in m.layers:
        h = m.keep(h + m.scale * layer(h).tanh())
    return m.leave(h)


def parts(kind):
    torch.manual_seed(0)
    if kind in (resnet, in_place, u_net):
        blocks = (
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1))
            for _ in "abc"
        )
        return {
            "stem": nn.Conv2d(3, 6, 3, padding=1),
            "blocks": nn.ModuleList(blocks),
            "leave": nn.Linear(6, 2),
            "up": nn.Conv2d(12, 2, 3),
        }
    return {
        "stem": nn.Linear(5, 8),
        "attention": nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in "ab"),
        "feed": nn.ModuleList(nn.Sequential(nn.Linear(8, 13), nn.GELU(), nn.Linear(13, 8)) for _ in "ab"),
        "layers": nn.ModuleList(nn.Linear(8, 8) for _ in "abc"),
        "gates": nn.ModuleList(nn.Linear(8, 8) for _ in "abc"),
        "grow": nn.ModuleList(nn.Linear(8 + 3 * i, 3) for i in range(3)),
        "scale": nn.Parameter(torch.full((8,), 1e-3)),
        "leave": nn.Linear(8, 2),
        "leave_dense": nn.Linear(17, 2),
    }


@pytest.mark.parametrize("told", [True, False], ids=["loss", "output"])
@pytest.mark.parametrize("run", [resnet, in_place, pre_norm, post_norm, parallel, highway, dense, u_net, scaled])
def test_the_stream_s_gradient_is_that_of_the_tensor(run, told):
    model = Built(run, **parts(run))
    images, texts = x_of(4, 3, 8, 8), x_of(4, 6, 5)
    x = images if "blocks" in dict(model.named_children()) else x_of(9, 5) if run in (highway, dense, scaled) else texts
    with GradientRecorder(model) as recorder:
        loss = model(x).square().sum()
        if told:
            recorder.before_backward(loss)
        loss.backward()
        recorder.before_step(0)
    (record,) = recorder.flush()
    expected = [root([tensor.grad]) for tensor in model.kept]
    assert [*record.values["stream_norm"].values()] == pytest.approx(expected, rel=1e-5)
    assert all(name.endswith("+") for name in record.values["stream_norm"])
    sums = [name for name in record.trunks[0].layers if name.endswith("+")]
    assert sums == [*record.values["stream_norm"]]


@pytest.mark.parametrize("where", ["branches", "head", "adapters", "first adapter", "hidden"])
def test_what_begins_at_zero_is_not_dead(where):
    torch.manual_seed(0)
    model = Built(scaled, **parts(scaled))
    if where == "branches":
        nn.init.zeros_(model.scale)
    elif where == "head":
        nn.init.zeros_(model.leave.weight)
    elif where == "hidden":
        model = Built(lambda m, x: m.a(x), a=mlp(hidden=3))
        nn.init.zeros_(model.a[4].weight)
    else:
        base = [nn.Linear(5, 5).requires_grad_(False) for _ in "abcd"]
        down = nn.ModuleList(nn.Linear(5, 2, bias=False) for _ in base)
        up = nn.ModuleList(nn.Linear(2, 5, bias=False) for _ in base)
        for layer in up:
            nn.init.zeros_(layer.weight)

        def run(m, x):
            for index, layer in enumerate(base):
                x = layer(x) + (up[index](down[index](x)) if where == "adapters" or index == 0 else 0)
                x = x.tanh()
            return x

        model = Built(run, base=nn.ModuleList(base), down=down, up=up)
    _, _, verdict = recorded(model)
    assert verdict.name == "healthy", verdict


def test_squeeze_and_excitation_of_what_begins_at_zero_is_not_dead():
    """Its ReLUs get zeros until the branch has left them, as in a normalizer-free network."""
    torch.manual_seed(0)
    model = Built(
        lambda m, x: m.leave((h := m.enter(x)) + (z := m.b(m.a(h).tanh())) * m.d(m.c(z).relu()).sigmoid()),
        **{name: nn.Linear(5, 5, bias=name != "c") for name in ("enter", "a", "b", "c", "d", "leave")},
    )
    nn.init.zeros_(model.b.weight)
    nn.init.zeros_(model.b.bias)
    _, record, verdict = recorded(model)
    assert record.values["dead_share"] == {"c": 1.0}
    assert verdict.name == "healthy", verdict


@dataclass
class Output:
    logits: torch.Tensor
    commitment: torch.Tensor


@pytest.mark.parametrize(
    "wrap",
    [lambda *both: both, lambda a, b: {"commitment": b, "logits": a}, Output],
    ids=["tuple", "mapping", "dataclass"],
)
def test_a_model_that_returns_a_part_of_its_loss_beside_its_output_is_one_trunk(wrap):
    torch.manual_seed(0)

    def run(m, x):
        h = m.encoder(x)
        nearest = torch.cdist(h, m.book).argmin(1)
        commitment = (h - m.book[nearest]).square().mean()
        return wrap(m.decoder(h + (m.book[nearest] - h).detach()), commitment)

    model = Built(run, encoder=mlp(outputs=4), decoder=mlp(4), book=nn.Parameter(torch.randn(9, 4)))
    with GradientRecorder(model) as recorder:
        output = model(x_of(SAMPLES, INPUTS))
        tensors = vars(output).values() if isinstance(output, Output) else output
        tensors = tensors.values() if isinstance(tensors, dict) else tensors
        sum(tensor.square().mean() for tensor in tensors).backward()
        recorder.before_step(0)
    (record,) = recorder.flush()
    expected = [f"encoder.{i}" for i in (0, 2, 4, 6)] + [f"decoder.{i}" for i in (0, 2, 4, 6)]
    assert [name for name in recorder.layers if name != "book"] == expected
    assert record.unreached == ()


def test_a_layer_that_the_first_step_leaves_out_comes_behind_what_it_follows():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.skip = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), "b"

        def forward(self, x):
            for name in "abc":
                x = x if name == self.skip else getattr(self, name)(x)
            return x

    model = Drops()
    with GradientRecorder(model) as recorder:
        for step, model.skip in enumerate("bc"):
            model(torch.randn(2, 4)).sum().backward()
            recorder.before_step(step)
    assert recorder.layers == ["a", "b", "c"]


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_weight_without_elements_is_no_layer():
    model = nn.Sequential(nn.Linear(3, 0), nn.Linear(0, 5), nn.Linear(5, 2))
    with GradientRecorder(model) as recorder:
        model(torch.randn(2, 3)).sum().backward()
        recorder.before_step(0)
        (record,) = recorder.flush()
    assert list(record.values["gradient_norm"]) == ["2"]
    assert record.totals["gradient_norm"] > 0


def test_a_residual_stream_that_is_compared_as_it_is_ends_in_its_last_sum():
    """Its last branch, scaled down as ConvNeXt's at the start, is no end of its own."""
    torch.manual_seed(0)
    model = Built(lambda m, x: (h := m.a(x)) + 1e-6 * m.b(h), a=nn.Linear(INPUTS, 4), b=nn.Linear(4, 4))
    _, record, verdict = recorded(model)
    assert [(trunk.layers, trunk.heads) for trunk in record.trunks] == [(("a", "b+"), ())]
    assert verdict.name == "healthy", verdict


def test_what_comes_into_a_branch_from_its_side_is_no_trunk():
    """Relative positions, as Swin's and the conformer's: their gradient is small by right, and nothing feeds them."""

    def run(m, x):
        x = m.enter(x)
        for queries, places, contents, out in zip(m.queries, m.places, m.contents, m.out, strict=True):
            x = x + out((queries(x) @ places(m.grid).T / 1e4).softmax(1) @ contents(x))
        return m.leave(x)

    torch.manual_seed(0)
    layers = {name: nn.ModuleList(nn.Linear(5, 5) for _ in "ab") for name in ("queries", "places", "contents", "out")}
    model = Built(run, enter=nn.Linear(5, 5), leave=nn.Linear(5, 2), **layers)
    model.register_buffer("grid", x_of(SAMPLES, 5))
    with GradientRecorder(model) as recorder:
        model(x_of(SAMPLES, 5)).square().mean().backward()
        recorder.before_step(0)
        (record,) = recorder.flush()
    assert [(trunk.layers[0], trunk.layers[-1]) for trunk in record.trunks] == [("enter", "leave")]
    assert record.values["delta_norm"]["places.0"] < 1e-3 * record.values["delta_norm"]["leave"]


def test_the_layers_of_a_branch_are_not_those_of_what_enters_it():
    """A position that is added inside a branch which its last factor keeps small, as EdgeNeXt's is."""
    torch.manual_seed(0)
    grid = x_of(SAMPLES, 5)
    model = Built(
        lambda m, x: m.leave((h := m.enter(x)) + 1e-6 * m.b(m.a(h.tanh() + m.place(grid)).relu())),
        **{name: nn.Linear(5, 5) for name in ("enter", "place", "a", "b", "leave")},
    )
    _, record, verdict = recorded(model)
    assert [trunk.layers[0] for trunk in record.trunks] == ["enter"]
    assert record.values["delta_norm"]["place"] < 1e-3 * record.values["delta_norm"]["leave"]
    assert verdict.name == "healthy", verdict


def test_what_enters_a_branch_is_no_trunk_though_it_is_as_far_from_the_loss_as_the_data():
    """The two layers of a relative position."""
    torch.manual_seed(0)
    grid = x_of(SAMPLES, 5)
    model = Built(
        lambda m, x: m.leave((h := m.enter(x)) + m.out((m.a(h) * 1e-4 * m.place(m.grid(grid))).softmax(-1))),
        **{name: nn.Linear(5, 5) for name in ("grid", "place", "enter", "a", "out", "leave")},
    )
    _, record, _ = recorded(model)
    assert [trunk.layers[0] for trunk in record.trunks] == ["enter"]
