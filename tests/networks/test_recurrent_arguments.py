import inspect
import logging
import math
import re

import pytest
import torch
from lightning import Trainer
from torch import nn

from unvanish.data import BatchLoader
from unvanish.networks.recurrent import Recurrent
from unvanish.training import Optimizer, Regularization, Schedule, Training

B, T, F, H, C, V = 3, 11, 5, 7, 2, 13
PADDING = 4
TOKENS = torch.arange(B * T).square().remainder(V).view(B, T)
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
INPUTS, UNITS = 300, 200
VARIANCES = {
    "xavier_uniform": lambda fan_in: 2 / (fan_in + UNITS),
    "xavier_normal": lambda fan_in: 2 / (fan_in + UNITS),
    "he_uniform": lambda fan_in: 2 / fan_in,
    "he_normal": lambda fan_in: 2 / fan_in,
    "lecun_normal": lambda fan_in: 1 / fan_in,
    "orthogonal": lambda fan_in: 1 / max(fan_in, UNITS),
}


def draw(cell, initialization, **options):
    torch.manual_seed(7)
    model = Recurrent((T, INPUTS), 5, UNITS, cell=cell, bidirectional=True, initialization=initialization, **options)
    (layer,) = model.layers
    return model, (layer.recurrence, layer.reverse)


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("cell", GATES)
def test_each_gate_is_drawn_by_the_scheme(cell, name):
    model, modules = draw(cell, name)
    for module in modules:
        for matrix, fan_in in ((module.weight_ih_l0, INPUTS), (module.weight_hh_l0, UNITS)):
            for gate in matrix.detach().split(UNITS):
                assert gate.var().item() == pytest.approx(VARIANCES[name](fan_in), rel=0.03)
    scale = {
        "xavier": 2 / (2 * UNITS + 5),
        "he": 2 / (2 * UNITS),
        "lecun": 1 / (2 * UNITS),
        "orthogonal": 1 / (2 * UNITS),
    }
    assert model.output.weight.var().item() == pytest.approx(scale[name.partition("_")[0]], rel=0.1)
    assert not model.output.bias.any()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("cell", GATES)
def test_auto_is_xavier_and_orthogonal_gate_by_gate_and_says_so(cell, activation, caplog):
    if activation == "relu" and cell != "rnn":
        activation = "tanh"
    with caplog.at_level(logging.INFO, logger="unvanish"):
        _, modules = draw(cell, "auto", activation=activation)
    assert caplog.messages == ["initialization auto: xavier_normal for input weights, orthogonal for recurrent ones"]
    for module in modules:
        assert len(module.weight_hh_l0) == GATES[cell] * UNITS
        for gate in module.weight_hh_l0.detach().split(UNITS):
            torch.testing.assert_close(gate @ gate.T, torch.eye(UNITS), atol=1e-5, rtol=0)
        for gate in module.weight_ih_l0.detach().split(UNITS):
            assert gate.var().item() == pytest.approx(2 / (INPUTS + UNITS), rel=0.03)
    gates = [gate for module in modules for gate in module.weight_hh_l0.detach().split(UNITS)]
    assert all(not torch.equal(a, b) for i, a in enumerate(gates) for b in gates[:i])


@pytest.mark.parametrize(
    ("initialization", "forget_bias", "expected"),
    [("auto", None, 1), ("xavier_uniform", None, 1), ("auto", 0.0, 0), ("orthogonal", -2.5, -2.5), ("auto", 3.0, 3)],
)
def test_the_two_biases_of_a_gate_add_up_to_zero_and_of_the_forget_gate_to_its_own(
    initialization, forget_bias, expected
):
    _, modules = draw("lstm", initialization, forget_bias=forget_bias)
    for module in modules:
        gates = (module.bias_ih_l0 + module.bias_hh_l0).view(4, UNITS)
        assert [gate.unique().tolist() for gate in gates] == [[0], [expected], [0], [0]]


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_other_cells_have_no_bias_at_first(cell):
    for module in draw(cell, "auto")[1]:
        assert not module.bias_ih_l0.any()
        assert not module.bias_hh_l0.any()


@pytest.mark.parametrize("forget_bias", [None, 1.0])
@pytest.mark.parametrize("cell", GATES)
def test_default_keeps_what_torch_drew_but_for_a_forget_bias_that_is_given(cell, forget_bias):
    given = forget_bias if cell == "lstm" else None
    model, modules = draw(cell, "default", forget_bias=given)
    torch.manual_seed(7)
    kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
    for module in modules:
        twin = kind(INPUTS, UNITS)
        if given is not None:
            for bias, value in ((twin.bias_ih_l0, given), (twin.bias_hh_l0, 0)):
                bias.data[UNITS : 2 * UNITS] = value
        for found, expected in zip(module.parameters(), twin.parameters(), strict=True):
            assert torch.equal(found, expected)
    assert torch.equal(model.output.weight, nn.Linear(2 * UNITS, 5).weight)


def test_tokens_are_embedded_in_standard_normals_and_padding_in_zero():
    torch.manual_seed(7)
    weight = Recurrent((T,), C, 101, vocabulary_size=211, padding_index=7).embedding.weight.detach()
    assert weight.shape == (211, 101)
    assert weight.var().item() == pytest.approx(1, rel=0.03)
    assert [row for row in range(211) if not weight[row].any()] == [7]


def test_the_seed_alone_decides_the_weights():
    vectors = []
    for seed in (7, 7, 11):
        torch.manual_seed(seed)
        vectors.append(nn.utils.parameters_to_vector(Recurrent((T, F), C, H).parameters()))
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


ARGUMENTS = {
    "input_shape": (T,),
    "output_size": 2,
    "hidden_size": 4,
    "num_layers": 2,
    "cell": "lstm",
    "bidirectional": True,
    "embedding_dim": 8,
    "vocabulary_size": V,
    "padding_index": PADDING,
    "activation": "tanh",
    "initialization": "orthogonal",
    "normalization": "layer",
    "residual": True,
    "forget_bias": 2.0,
}


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_checkpoint_holds_all_that_a_network_is(tmp_path, optimizer):
    training = Training(
        optimizer=Optimizer(optimizer, 0.1, {"betas": (0.8, 0.9)}),
        regularization=Regularization(dropout=0.5, l2=0.1, max_norm=3.0),
        schedule=Schedule("cosine", warmup_steps=1),
    )
    arguments = ARGUMENTS | {"training": training}
    assert set(arguments) == set(inspect.signature(Recurrent).parameters)
    model = Recurrent(**arguments)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    run.fit(model, BatchLoader((TOKENS, torch.arange(B) % 2), B))
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []
    run.save_checkpoint(tmp_path / "run.ckpt")

    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"] == arguments
    loaded = Recurrent.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert loaded.settings == training
    assert dict(loaded.hparams) == arguments
    assert torch.equal(loaded.eval()(TOKENS), model.eval()(TOKENS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0; it must be at least 1"),
        ({"input_shape": ()}, "input_shape is (); every axis needs a length of at least 1"),
        ({"input_shape": (T, 0)}, "input_shape is (11, 0); every axis needs a length of at least 1"),
        (
            {"input_shape": (T,)},
            "input_shape (11,) is that of tokens, which need vocabulary_size; series of one number",
        ),
        (
            {"input_shape": (1, 28, 28)},
            "input_shape is (1, 28, 28); a recurrent network reads series (T, F), or tokens",
        ),
        ({"vocabulary_size": V}, "input_shape is (11, 5); with vocabulary_size the input is tokens, (T,)"),
        ({"embedding_dim": 3}, "embedding_dim is for tokens, and goes with vocabulary_size"),
        ({"padding_index": 0}, "padding_index is for tokens, and goes with vocabulary_size"),
        (
            {"input_shape": (T,), "vocabulary_size": V, "padding_index": V},
            "padding_index is 13; the vocabulary's tokens are 0 to 12",
        ),
        (
            {"input_shape": (T,), "vocabulary_size": V, "padding_index": -1},
            "padding_index is -1; the vocabulary's tokens are 0 to 12",
        ),
        ({"cell": "lsmt"}, "unknown cell 'lsmt'; did you mean 'lstm'? (known: rnn, lstm, gru)"),
        ({"cell": "lsmt", "forget_bias": 1.0}, "unknown cell 'lsmt'; did you mean 'lstm'? (known: rnn, lstm, gru)"),
        ({"activation": "reul"}, "unknown activation 'reul'; did you mean 'relu'? (known: tanh, relu)"),
        ({"cell": "rnn", "activation": "gelu"}, "unknown activation 'gelu'; did you mean 'relu'? (known: tanh, relu)"),
        ({"activation": "relu"}, "activation 'relu' is for cell rnn: the gates of lstm suppose tanh"),
        ({"cell": "gru", "activation": "relu"}, "activation 'relu' is for cell rnn: the gates of gru suppose tanh"),
        ({"initialization": "he_norml"}, "unknown initialization 'he_norml'; did you mean 'he_normal'? (known: auto, "),
        ({"normalization": "batch"}, "normalization 'batch' is not for sequences: its statistics would mix the steps"),
        ({"normalization": "laier"}, "unknown normalization 'laier'; did you mean 'layer'? (known: none, layer)"),
        ({"residual": True}, "residual adds a layer's input to its output: both must have one size, and the only"),
        ({"cell": "gru", "forget_bias": 1.0}, "forget_bias is for cell lstm: gru has no forget gate"),
        ({"cell": "rnn", "forget_bias": 0.0}, "forget_bias is for cell lstm: rnn has no forget gate"),
        ({"forget_bias": math.nan}, "forget_bias is nan; it must be finite"),
        ({"training": Training(task="next_token")}, "task next_token needs tokens, and so vocabulary_size"),
        (
            {"input_shape": (T,), "vocabulary_size": V, "output_size": 12, "training": Training(task="next_token")},
            "task next_token has one output a token: output_size is 12, vocabulary_size 13",
        ),
        (
            {
                "input_shape": (T,),
                "vocabulary_size": V,
                "output_size": V,
                "bidirectional": True,
                "training": Training(task="next_token"),
            },
            "bidirectional is not for task next_token: read from its end, a text shows the answer",
        ),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Recurrent(**{"input_shape": (T, F), "output_size": C, "hidden_size": H} | options)
