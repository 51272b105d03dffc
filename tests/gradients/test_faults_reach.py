"""What does not train although it seems to, and what only seems so."""

import pytest
import torch
from parts import INPUTS, SAMPLES, Built, mlp, recorded, x_of
from torch import nn
from torch.nn import functional as F

from unvanish.gradients import GradientRecorder

CUTS = {
    "detach": lambda h: h.detach(),
    "argmax": lambda h: F.one_hot(h.argmax(-1), 7).float(),
    "numpy": lambda h: torch.from_numpy(h.detach().numpy()),
    "a list": lambda h: torch.tensor(h.tolist()),
    "integers": lambda h: h.long().float(),
    "data": lambda h: h.data,
    "comparison": lambda h: (h > 0).float(),
    "a table": lambda h: torch.eye(7)[h.argmax(-1)],
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_network_before_a_cut_is_disconnected(cut):
    torch.manual_seed(0)
    model = Built(lambda m, x: m.b(CUTS[cut](m.a(x))), a=mlp(outputs=7), b=mlp(7))
    recorder, record, verdict = recorded(model)
    assert record.unreached == ("a.0", "a.2", "a.4", "a.6")
    assert verdict.name == "disconnected"
    assert recorder.notes == ["8 parameters without a gradient: a.0.weight, a.0.bias, a.2.weight and 5 more"]


def without_gradients(m, x):
    with torch.no_grad():
        h = m.a(x)
    return m.b(h)


@pytest.mark.parametrize(
    ("run", "parts", "name", "sentence"),
    [
        (
            without_gradients,
            {"a": mlp(outputs=7), "b": mlp(7)},
            "healthy",
            "8 parameters without a gradient: a.0.weight",
        ),
        (
            lambda m, x: m.b(m.hidden[1](m.hidden[0](m.a(x)))),
            {"a": nn.Linear(INPUTS, 7), "hidden": 0, "b": nn.Linear(7, 2)},
            "weights that the model does not know",
            "4 weights in the loss that the model does not know: (7, 7)",
        ),
        (
            lambda m, x: torch.func.functional_call(m.b, {k: v.detach().requires_grad_() for k, v in m.w}, (m.a(x),)),
            {"a": mlp(outputs=7), "b": mlp(7)},
            "weights that the model does not know",
            "4 weights in the loss that the model does not know: (3, 7), (7, 7)",
        ),
    ],
    ids=["no_grad", "layers in a list", "fast weights"],
)
def test_what_does_not_train_is_said_first_and_healthy_is_not_said_of_everything(run, parts, name, sentence):
    torch.manual_seed(0)
    model = Built(run, **parts)
    model.hidden = [nn.Linear(7, 7), nn.Linear(7, 7)]
    model.w = [*model.b.named_parameters()]
    recorder, _, verdict = recorded(model)
    assert any(note.startswith(sentence) for note in recorder.notes)
    assert verdict.name == name
    assert "the gradient reaches every layer" not in str(verdict)
    assert sentence in str(verdict)


def test_parameters_in_no_optimizer_are_said():
    model = Built(lambda m, x: m.b(m.a(x)), a=mlp(outputs=7), b=mlp(7))
    with GradientRecorder(model) as recorder:
        recorder.optimizes(torch.optim.SGD(model.b.parameters(), lr=0.1))
        model(x_of(SAMPLES, INPUTS)).sum().backward()
        recorder.before_step(0)
    recorder.flush()
    assert recorder.notes == ["8 parameters in no optimizer: a.0.weight, a.0.bias, a.2.weight and 5 more"]


def test_a_head_that_was_replaced_after_the_optimizer_was_made_is_noticed_by_the_optimizer_s_steps():
    model = nn.Sequential(mlp(outputs=7), nn.Linear(7, 2))
    optimizer, other = (
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1),
    )
    model[1] = nn.Linear(7, 2)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(11):
            assert recorder.notes == []  # another optimizer may be yet to step
            model(x_of(SAMPLES, INPUTS)).sum().backward()
            recorder.before_step(step)
            optimizer.step()
            other.step()  # of a network beside this one
            recorder.after_step()
    assert recorder.notes == ["2 parameters in no optimizer: 1.weight, 1.bias"]


def test_weights_that_a_loop_changes_itself_need_no_optimizer():
    model, other = mlp(), torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(11):
            model(x_of(SAMPLES, INPUTS)).sum().backward()
            recorder.before_step(step)
            other.step()
            recorder.after_step()
    assert not [note for note in recorder.notes if "in no optimizer" in note]


def with_target(detached, first):
    def run(m, x, other):
        target = m.target(other) if first else None
        online = m.online(x)
        if not first:
            target = m.target(other)
        return online - (target.detach() if detached else target)

    return run


@pytest.mark.parametrize(
    "model",
    [
        Built(
            lambda m, x, _: (m.head(h := m.a(x)), m.b(h))[1], a=mlp(outputs=7), b=nn.Linear(7, 2), head=nn.Linear(7, 2)
        ),
        Built(lambda m, x, _: (m.head(x), m.b(m.a(x)))[1], a=mlp(outputs=7), b=nn.Linear(7, 2), head=mlp()),
        Built(lambda m, x, _: (m.head(x / 2), m.b(m.a(x[:, :5])))[1], a=mlp(outputs=7), b=nn.Linear(7, 2), head=mlp()),
        Built(lambda m, x, _: (m.head(x := x * 2), m.a(x))[1], a=mlp(), head=mlp()),
        Built(with_target(detached=True, first=True), online=mlp(), target=mlp()),
        Built(with_target(detached=True, first=False), online=mlp(), target=mlp()),
        Built(lambda m, x, _: m.b(m.a(x)), a=mlp(outputs=7).requires_grad_(False), b=mlp(7)),
    ],
    ids=["behind", "on the input", "on a part", "on what was made of it", "target first", "target last", "frozen"],
)
def test_what_is_beside_the_way_is_not_disconnected(model):
    _, record, verdict = recorded(model, x_of(SAMPLES, INPUTS), x_of(SAMPLES, INPUTS))
    assert record.unreached == ()
    assert verdict.name == "healthy"


def test_a_target_network_in_a_raw_loop_is_not_disconnected():
    model = nn.ModuleDict({"online": mlp(), "target": mlp()})
    with GradientRecorder(model) as recorder:
        online = model["online"](x_of(SAMPLES, INPUTS))
        (online - model["target"](x_of(SAMPLES, INPUTS) + 1).detach()).square().sum().backward()
        recorder.before_step(0)
    assert recorder.flush()[0].unreached == ()


def test_a_part_that_trains_at_other_steps_is_not_disconnected():
    model = Built(lambda m, x, cut: m.b(m.a(x).detach() if cut else m.a(x)), a=mlp(outputs=7), b=mlp(7))
    with GradientRecorder(model, every_n_steps=1) as recorder:
        for step in range(4):
            model.zero_grad()
            model(x_of(SAMPLES, INPUTS), step % 2 == 1).sum().backward()
            recorder.before_step(step)
    assert recorder.flush()[-1].unreached == ()
    assert recorder.notes == []
