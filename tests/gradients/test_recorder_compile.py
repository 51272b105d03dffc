import pytest
import torch
from recorded import NETWORKS, assert_equal, batches
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

# Dynamo itself asks every input of a graph, leaf or not.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
SEEN = ("gradient_norm", "gradient_rms", "delta_norm", "delta_rms", "update_ratio")


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def whole(model, backend="aot_eager"):
    return torch.compile(model, backend=backend)


def in_place(model):
    model.compile(backend="aot_eager")
    return model


def in_blocks(model):
    """Each of its children compiled on its own, but for a recurrent one."""
    for name, child in list(model.named_children()):
        if not isinstance(child, nn.RNNBase):
            setattr(model, name, torch.compile(child, backend="aot_eager"))
    return model


def train(model, compiled, steps, **options):
    """Trains in micro-batches of two sizes, as a last one has."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientRecorder(compiled, **options) as recorder:
        for step, (x, y) in enumerate(batches(torch.float32, steps)):
            optimizer.zero_grad()
            for part_x, part_y in ((x[:17], y[:17]), (x[16:], y[16:])):
                (F.cross_entropy(compiled(part_x), part_y) / 2).backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step()
        return recorder, recorder.flush()


def recorded(name, wrap=None, steps=3, **options):
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    return train(model, wrap(model) if wrap else model, steps, **options)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        *((name, whole) for name in ("mlp", "batchnorm", "pooled", "shared", "lstm", "transformer")),
        *((name, wrap) for name in ("mlp", "lstm") for wrap in (in_place, in_blocks)),
    ],
)
def test_a_compiled_network_shows_the_same_gradients_as_an_eager_one(name, wrap):
    options = {"every_n_steps": 2, "first_steps": 1}
    eager, expected = recorded(name, **options)
    compiled, records = recorded(name, wrap, **options)
    assert compiled.layers == eager.layers
    for record, values in zip(records, (record.values for record in expected), strict=True):
        seen = [quantity for quantity in SEEN if quantity in values]
        assert_equal({q: record.values[q] for q in seen}, {q: values[q] for q in seen})


@pytest.mark.timeout(300)
def test_inductor_shows_the_same_gradients():
    _, expected = recorded("mlp", steps=2)
    _, records = recorded("mlp", lambda model: whole(model, "inductor"), steps=2)
    for record, values in zip(records, (record.values for record in expected), strict=True):
        assert_equal({q: record.values[q] for q in SEEN}, {q: values[q] for q in SEEN})


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_recording_breaks_no_graph_and_compiles_once(name):
    recorded(name, whole, steps=7, every_n_steps=3, first_steps=2)
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


def test_what_a_compiled_graph_hides_is_said_once():
    recorder, records = recorded("lstm", whole)
    assert not any("activation_mean" in record.values or record.through_time for record in records)
    assert recorder.notes == [
        "activation of rnn, leave was not measured: a compiled graph does not show it",
        "dL/dh_t of rnn was not measured: a compiled graph does not show it",
    ]


def test_a_network_that_was_compiled_in_place_before_is_compiled_anew_with_the_hooks():
    model = NETWORKS["mlp"][0]()
    in_place(model)
    ((x, y),) = batches(torch.float32, 1)
    F.cross_entropy(model(x[:17]), y[:17]).backward()
    recorder, (record, _) = train(model, model, 2)
    assert list(record.values["delta_norm"]) == ["0", "2", "4", "6"]
    assert recorder.notes == ["activation of 0, 2, 4, 6 was not measured: a compiled graph does not show it"]


def test_a_network_that_was_compiled_and_called_before_has_a_note_in_place_of_its_delta():
    model = NETWORKS["mlp"][0]()
    compiled = whole(model)
    ((x, y),) = batches(torch.float32, 1)
    F.cross_entropy(compiled(x[:17]), y[:17]).backward()
    recorder, (record, _) = train(model, compiled, 2)
    assert "delta_norm" not in record.values
    assert list(record.values["gradient_norm"]) == ["0", "2", "4", "6"]
    assert recorder.notes == [
        "delta of 0, 2, 4, 6 was not measured: it was compiled and called before the recorder was entered, and hooks "
        "added later do not run"
    ]


def test_a_validation_before_the_recorder_is_entered_does_no_harm():
    model = NETWORKS["mlp"][0]()
    compiled = whole(model)
    with torch.no_grad():
        compiled(batches(torch.float32, 1)[0][0][:17])
    recorder, (record, _) = train(model, compiled, 2)
    assert list(record.values["delta_norm"]) == ["0", "2", "4", "6"]
    assert recorder.notes == ["activation of 0, 2, 4, 6 was not measured: a compiled graph does not show it"]
