import inspect
import pkgutil
import random
import re
from importlib import import_module

import broken_networks as nets
import pytest
import torch
from torch import nn

import unvanish.networks
from unvanish.activations import build_activation
from unvanish.names import lookup
from unvanish.testing import check_architecture, contract
from unvanish.training import Optimizer, ReferenceModule, Regularization, Training

TABLE = {"input_shape": (7,), "output_size": 3}
BINARY = {"input_shape": (7,), "output_size": 1, "task": "binary"}
TEXT = {"input_shape": (7,), "output_size": 11, "vocabulary_size": 11, "task": "next_token"}
LABELLED = {"input_shape": (7,), "output_size": 3, "vocabulary_size": 11, "padding_index": 0}
SERIES = {"input_shape": (7, 3), "output_size": 2, "task": "regression"}
IMAGES = {"input_shape": (3, 8, 8), "output_size": 5}
CLIPS = {"input_shape": (1, 4, 8, 8), "output_size": 5}

MLP, CNN, COMPACT = "mlp.MLP", "cnn.CNN", "compact_cnn.CompactCNN"
RECURRENT, TRANSFORMER, WRAP = "recurrent.Recurrent", "transformer.Transformer", "wrap.Wrap"
SMALL = {"embedding_dim": 8, "num_layers": 2, "num_heads": 2}
CELLS = ("rnn", "lstm", "gru")
POSITIONS = ("learned", "sinusoidal", "rotary")
VISION = {"image_size": 8, "patch_size": 4, "num_layers": 1, "num_heads": 1, "hidden_dim": 6, "mlp_dim": 5}
DENSE = {"growth_rate": 2, "block_config": [1], "num_init_features": 3}
FAMILIES = [
    (MLP, TABLE | {"hidden_sizes": 5, "num_layers": 4}),
    (MLP, TABLE | {"hidden_sizes": [5, 5], "normalization": "batch", "residual": True}),
    (MLP, BINARY | {"hidden_sizes": [5, 5], "normalization": "layer", "activation": "sigmoid"}),
    (MLP, SERIES | {"hidden_sizes": [5]}),
    *((CNN, IMAGES | {"num_layers": 8, "width": 2, "normalization": name}) for name in ("none", "batch")),
    (CNN, IMAGES | {"num_layers": 8, "width": 2, "residual": False}),
    (CNN, IMAGES | {"num_layers": 8, "width": 2, "preactivation": True}),
    (CNN, BINARY | {"input_shape": (1, 9, 7), "num_layers": 8, "width": 2}),
    (CNN, CLIPS | {"num_layers": 8, "width": 2}),
    *((COMPACT, IMAGES | {"channels": [3, 5], "normalization": name}) for name in ("batch", "group")),
    (COMPACT, BINARY | {"input_shape": (1, 9, 7), "channels": [3, 5]}),
    (COMPACT, CLIPS | {"channels": [3, 5]}),
    *((RECURRENT, TEXT | {"hidden_size": 5, "cell": cell}) for cell in CELLS),
    (RECURRENT, LABELLED | {"hidden_size": 5, "cell": "gru", "bidirectional": True}),
    (RECURRENT, SERIES | {"hidden_size": 5, "num_layers": 2, "cell": "rnn", "residual": True}),
    (RECURRENT, SERIES | {"hidden_size": 5, "num_layers": 2, "residual": True, "normalization": "layer"}),
    (RECURRENT, BINARY | {"input_shape": (7, 3), "hidden_size": 5}),
    *((TRANSFORMER, TEXT | SMALL | {"positions": positions}) for positions in POSITIONS),
    (TRANSFORMER, LABELLED | SMALL | {"positions": "rotary"}),
    (TRANSFORMER, TEXT | SMALL | {"tie_weights": True, "norm_first": False}),
    (TRANSFORMER, SERIES | SMALL | {"normalization": "none"}),
    (TRANSFORMER, SERIES | SMALL | {"normalization": "none", "residual": False}),
    (TRANSFORMER, IMAGES | SMALL | {"patch_size": 4}),
    (TRANSFORMER, BINARY | {"input_shape": (1, 8, 8)} | SMALL | {"patch_size": 4}),
    (WRAP, IMAGES | {"module": "torchvision.models.VisionTransformer", "arguments": VISION}),
    (WRAP, IMAGES | {"input_shape": (1, 8, 8), "module": "torchvision.models.DenseNet", "arguments": DENSE}),
    (WRAP, BINARY | {"module": "torch.nn.Linear", "arguments": {"in_features": 7, "out_features": 1}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "arguments"), FAMILIES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_family_keeps_the_contract_in_every_mode(path, arguments):
    check_architecture(pkgutil.resolve_name(f"unvanish.networks.{path}"), **arguments)


def test_no_family_is_left_out():
    found = set()
    for module in pkgutil.iter_modules(unvanish.networks.__path__, "unvanish.networks."):
        for _, kind in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(kind, ReferenceModule) and kind.__module__ == module.name:
                found.add(f"{kind.__module__.removeprefix('unvanish.networks.')}.{kind.__name__}")
    assert found == {path for path, _ in FAMILIES}


BROKEN = [
    (nets.Tuple, TABLE, "forward returns tuple; it must be one tensor of logits"),
    (nets.ExtraAxis, TABLE, "forward returns (5, 3, 1) for an input of (5, 7); task multiclass wants (5, 3)"),
    (nets.TwoAxes, BINARY, "forward returns (5, 1) for an input of (5, 7); task binary wants (5,)"),
    (nets.Asserts, TABLE, "the check of output shape ends in AssertionError: one"),
    (nets.Double, TABLE, "forward returns torch.float64 where weights and input are float32"),
    (nets.Softmax, TABLE, "forward returns numbers in (0, 1) that sum to one: return logits, not probabilities"),
    (nets.Sigmoid, BINARY, "forward returns nothing below zero, whatever the seed: return logits, not probabilities"),
    (nets.Spare, TABLE, "no gradient reaches spare.weight: forward leaves it out, or cuts the graph"),
    (nets.Cut, TABLE, "no gradient reaches input.weight: forward leaves it out, or cuts the graph"),
    (nets.Infinite, TABLE, "the gradient of input.weight is not finite"),
    (nets.Kwargs, TABLE, "the last argument is kwargs; let it be training, and no **kwargs that hide a typo"),
    (nets.OwnTraining, TABLE, "training is not handed on: call super().__init__(training)"),
    (nets.Unseeded, TABLE, "one seed gives two networks: draw all random numbers by torch's own generator"),
    (nets.Constant, TABLE, "another seed gives the same network: nothing of it is drawn at random"),
    (nets.Noise, TABLE, "the same batch gets another output in evaluation: forward draws random numbers, or keeps"),
    (nets.PythonNoise, TABLE, "the same batch gets another output in evaluation"),
    (nets.Memory, TABLE, "the same batch gets another output in evaluation"),
    (nets.InPlace, TABLE, "forward writes into its input"),
    (nets.Centred, TABLE, "a sample changes the output of others in its batch, in evaluation"),
    (nets.CentredInTraining, TABLE, "a sample changes the output of others in its batch, in training"),
    (nets.Divided, TABLE, "a sample alone gets another output than in a batch"),
    (nets.BagOfWords, TEXT, "not causal: outputs up to token 0 change with the tokens behind it"),
    (nets.Reversed, TEXT, "not causal: outputs up to token 0 change with the tokens behind it"),
    (nets.Behind, TEXT, "the output at token 0 does not depend on that token"),
    (nets.Unregistered, TABLE, "the state dict does not hold all"),
    (nets.Widened, TABLE, "a checkpoint does not keep width: 5 goes in, 7 comes out"),
    (nets.NoPlainValue, TABLE, "a checkpoint does not load; is each argument a plain value?"),
    (nets.Float32, TABLE, "a pass in torch.float64 ends in RuntimeError"),
    (
        nets.BackToFloat32,
        TABLE,
        "forward returns torch.float32 in torch.float64: what it makes must have the input's dtype",
    ),
    (nets.Overflow, TABLE, "forward returns what is not finite in torch.bfloat16"),
    (nets.Compiled, TABLE, "torch.compile changes the output or the gradient"),
    (nets.NoDropout, TABLE, "dropout changes no output in training: use it, or refuse it by ValueError"),
    (nets.DropoutForEver, TABLE, "dropout acts in evaluation as well"),
    (
        nets.Ignored,
        TABLE,
        "residual=True makes the same network as residual=False: use it, or refuse it by ValueError",
    ),
    (nets.BrokenSwitch, TABLE, "residual=True ends in AssertionError: not yet, not ValueError"),
    (nets.SameWord, TABLE, "activation='sin' makes the same network as activation='tanh'"),
    (nets.UnlistedWord, TABLE, "activation='sigmoid' makes the same network as activation='tanh'"),
    (nets.AnyWord, TABLE, "activation='no_such_word' is accepted: refuse an unknown word by ValueError"),
    (nets.WordByKey, TABLE, "activation='no_such_word' ends in KeyError: 'no_such_word', not ValueError"),
    (nets.NoGain, TABLE, "gain=0.5 makes the same network as gain=0.25"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "data", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_network_is_told_in_a_sentence_how(network, data, sentence):
    with pytest.raises(AssertionError, match=f"^{re.escape(sentence)}") as broken:
        check_architecture(network, **data)
    assert "\n" not in str(broken.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "data"),
    [
        (nets.Good, TABLE),
        (nets.Good, BINARY),
        (nets.Good, SERIES | {"width": 7, "residual": True}),
        (nets.GoodText, TEXT),
        (nets.GoodWord, TABLE),
        (
            nets.Good,
            TABLE | {"training": Training(regularization=Regularization(dropout=0.2), optimizer=Optimizer("sgd"))},
        ),
    ],
)
def test_their_good_twins_pass_in_silence_and_leave_no_trace(network, data, capfd):
    states = torch.get_rng_state(), random.getstate()
    check_architecture(network, **data)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_dropout_that_is_refused_and_an_initialization_that_auto_names_are_no_faults():
    class Refuses(ReferenceModule):
        def __init__(self, input_shape, output_size, initialization: str = "auto", training=Training()):
            super().__init__(training)
            if training.regularization.dropout:
                raise ValueError("there is no place for dropout")
            self.output = nn.Linear(*input_shape, output_size)
            schemes = {"auto": nn.init.xavier_normal_, "xavier": nn.init.xavier_normal_, "he": nn.init.kaiming_normal_}
            lookup("initialization", initialization, schemes)(self.output.weight)
            self.activation = build_activation("identity")

        def forward(self, x):
            return self.activation(self.output(x))

    check_architecture(Refuses, **TABLE)


@pytest.mark.slow
def test_normalization_over_the_batch_is_torchs_alone():
    class Normalized(nets.Good):
        def __init__(self, input_shape, output_size, training=Training()):
            super().__init__(input_shape, output_size, training=training)
            self.normalization = nn.BatchNorm1d(5)

        def last(self, a):
            return super().last(self.normalization(a))

    check_architecture(Normalized, **TABLE)


@pytest.mark.slow
def test_all_clauses_are_gone_through_whichever_is_broken():
    arguments = {"input_shape": (7,), "output_size": 3, "training": Training()}
    clauses = dict(contract(nets.Ignored, arguments))
    assert [name for name, broken in clauses.items() if broken] == ["options"]
    assert list(clauses) == [name for name, _ in contract(nets.Good, arguments)]
    assert "causality" not in clauses
    text = {"input_shape": (7,), "output_size": 11, "vocabulary_size": 11, "training": Training("next_token")}
    assert "causality" in dict(contract(nets.GoodText, text))


def test_arguments_that_a_network_refuses_are_no_broken_contract():
    with pytest.raises(ValueError, match="hidden_sizes is"):
        check_architecture(unvanish.networks.MLP, **TABLE, hidden_sizes=0)
