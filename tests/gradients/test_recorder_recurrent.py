import pytest
import torch
from autograd_twin import state_gradients
from torch import nn

from unvanish.gradients import GradientRecorder

BATCH, INPUTS, UNITS = 3, 5, 7
LOSSES = {
    "last output": lambda y, h, c: y[-1].square().sum(),
    "all outputs": lambda y, h, c: y.pow(3).sum(),
    "one output": lambda y, h, c: y[2].sum(),
    "last state": lambda y, h, c: h[-1].square().sum() + c.sum(),
    "all": lambda y, h, c: y.pow(3).sum() + h.square().sum() + c.sum(),
}


def record(module, *inputs, loss=LOSSES["all"], passes=1, **keywords):
    with GradientRecorder(module) as recorder:
        for _ in range(passes):
            y, state = module(*inputs, **keywords)
            h, c = state if isinstance(state, tuple) else (state, torch.zeros(()))
            loss(y, h, c).backward()
        recorder.before_step(0)
    return recorder, recorder.flush()[0].through_time


def times_of(length):
    return sorted({round(1 + (length - 1) * k / 7) for k in range(8)})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "options"), [(nn.LSTM, {}), (nn.GRU, {}), (nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"})]
)
def test_the_state_s_gradient_is_that_of_the_recurrence_written_out(kind, options, dtype, levels, loss):
    torch.manual_seed(0)
    module = kind(INPUTS, UNITS, levels, **options).to(dtype)
    x = torch.randn(13, BATCH, INPUTS, dtype=dtype)
    found = record(module, x, loss=LOSSES[loss])[1][kind.__name__]
    has_cell = kind is nn.LSTM
    expected = state_gradients(module, x, lambda y, h, c: LOSSES[loss](y, h, c if has_cell else torch.zeros(())))
    assert list(found) == times_of(13) == [1, 3, 4, 6, 8, 10, 11, 13]
    assert found == {t: pytest.approx(expected[t - 1], rel=1e-5, abs=1e-30) for t in found}


@pytest.mark.parametrize("length", [1, 2, 7, 8, 101])
def test_the_times_reach_from_the_first_to_the_last(length):
    torch.manual_seed(0)
    module = nn.GRU(INPUTS, UNITS).double()
    x = torch.randn(length, BATCH, INPUTS, dtype=torch.float64)
    found = record(module, x)[1]["GRU"]
    expected = state_gradients(module, x, lambda y, h, c: y.pow(3).sum() + h.square().sum())
    assert list(found) == times_of(length)
    assert found == {t: pytest.approx(expected[t - 1], rel=1e-9) for t in found}


def test_a_gradient_that_vanishes_through_time_is_told_from_none():
    torch.manual_seed(0)
    module = nn.RNN(INPUTS, UNITS)
    nn.init.orthogonal_(module.weight_hh_l0, 0.05)
    found = record(module, torch.randn(19, BATCH, INPUTS), loss=LOSSES["last output"])[1]["RNN"]
    assert 0 < found[1] < 1e-20 < found[19]


def test_layouts_states_and_keywords_make_no_difference():
    torch.manual_seed(0)
    module, turned = nn.GRU(INPUTS, UNITS), nn.GRU(INPUTS, UNITS, batch_first=True)
    turned.load_state_dict(module.state_dict())
    x, h = torch.randn(11, BATCH, INPUTS), torch.zeros(1, BATCH, UNITS)

    def loss(y, h, c):
        return y.square().sum()

    expected = pytest.approx(record(module, x, loss=loss)[1]["GRU"], rel=1e-5)
    assert record(module, x, h, loss=loss)[1]["GRU"] == expected
    assert record(module, input=x, hx=h, loss=loss)[1]["GRU"] == expected
    assert record(turned, x.transpose(0, 1), loss=loss)[1]["GRU"] == expected
    alone = record(module, x[:, 0], h[:, 0], loss=loss)[1]["GRU"]
    assert alone == pytest.approx(record(module, x[:, :1], loss=loss)[1]["GRU"], rel=1e-5)


def test_micro_batches_add_up():
    torch.manual_seed(0)
    module, x = nn.LSTM(INPUTS, UNITS), torch.randn(11, 2 * BATCH, INPUTS)
    whole = record(module, x)[1]["LSTM"]
    with GradientRecorder(module) as recorder:
        for part in x.chunk(2, 1):
            y, (h, c) = module(part)
            LOSSES["all"](y, h, c).backward()
        recorder.before_step(0)
    assert recorder.flush()[0].through_time["LSTM"] == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_loss_of_the_state_alone_leaves_no_delta_and_says_so(kind, dtype):
    recorder, found = record(
        kind(INPUTS, UNITS).to(dtype), torch.ones(3, 2, INPUTS, dtype=dtype), loss=LOSSES["last state"]
    )
    assert list(found[kind.__name__]) == [1, 2, 3]
    (note,) = recorder.notes
    assert note.startswith(f"delta of {kind.__name__} was not measured: the first tensor that it returns has no part")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"bidirectional": True}, "it is bidirectional"),
        ({"num_layers": 2, "dropout": 0.5}, "dropout between its layers draws anew at every pass"),
    ],
)
def test_what_cannot_be_repeated_is_said(options, why):
    recorder, found = record(nn.GRU(INPUTS, UNITS, **options), torch.ones(3, 2, INPUTS), passes=2)
    assert found == {}
    assert recorder.notes == [f"dL/dh_t of GRU was not measured: {why}"]


def test_packed_sequences_and_sequences_of_two_lengths_are_said():
    module = nn.GRU(INPUTS, UNITS)
    with GradientRecorder(module) as recorder:
        y, _ = module(nn.utils.rnn.pack_sequence([torch.ones(3, INPUTS), torch.ones(2, INPUTS)]))
        y.data.sum().backward()
        recorder.before_step(0)
        for length in (3, 5):
            module(torch.ones(length, 2, INPUTS))[0].sum().backward()
        recorder.before_step(1)
    assert [record.through_time for record in recorder.flush()] == [{}, {}]
    assert recorder.notes == [
        "dL/dh_t of GRU was not measured: its sequences are packed",
        "dL/dh_t of GRU was not measured: its sequences differ in length within a step",
    ]
