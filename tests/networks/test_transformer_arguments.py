import inspect
import logging
import re

import pytest
import torch
from lightning import Trainer
from torch import nn

from unvanish.data import BatchLoader
from unvanish.networks.transformer import Transformer
from unvanish.training import Optimizer, Regularization, Schedule, Training

# B samples, T tokens, V tokens in the vocabulary, F features
B, T, V, F = 5, 7, 11, 2
NEXT_TOKEN = Training(task="next_token")
TOKENS = torch.arange(B * T).view(B, T) ** 2 % V


# nanoGPT's CPU size has 804,096: each of the nine norms has 128 shifts more, which nanoGPT leaves out.
@pytest.mark.parametrize(("tie_weights", "count"), [(True, 804_096 + 9 * 128), (False, 804_096 + 9 * 128 + 65 * 128)])
def test_parameters_are_as_many_as_nanogpt_s(tie_weights, count):
    model = Transformer((64,), 65, vocabulary_size=65, tie_weights=tie_weights, training=NEXT_TOKEN)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", ["auto", "gpt2"])
def test_gpt2_draws_every_weight_small_and_what_adds_to_the_residual_stream_smaller(name, residual, caplog):
    torch.manual_seed(7)
    options = {"embedding_dim": 256, "num_layers": 8, "vocabulary_size": 251, "initialization": name}
    with caplog.at_level(logging.INFO, logger="unvanish"):
        model = Transformer((64,), 251, **options, residual=residual, training=NEXT_TOKEN)
    assert caplog.messages == (["initialization auto: gpt2"] if name == "auto" else [])
    found = {layer: weight for layer, weight in model.named_parameters() if weight.dim() == 2}
    assert len(found) == 3 + 4 * 8
    for layer, weight in found.items():
        adds = layer.endswith(("projection.weight", "contraction.weight")) and residual
        assert weight.std().item() == pytest.approx(0.02 / 4 if adds else 0.02, rel=0.02), layer
        assert weight.mean().item() == pytest.approx(0, abs=6e-4), layer


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("xavier_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("he_uniform", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun_normal", lambda fan_in, fan_out: 1 / fan_in),
    ],
)
def test_another_scheme_is_for_linear_layers_and_for_queries_keys_and_values_each_by_themselves(name, variance):
    torch.manual_seed(7)
    options = {"embedding_dim": 256, "vocabulary_size": 251, "padding_index": 0, "initialization": name}
    model = Transformer((64,), 241, num_layers=1, **options)
    layers = dict(model.named_modules())
    assert not layers["embedding"].weight[0].any()
    for embedding in (layers["embedding"].weight[1:], layers["position_embedding"].weight):
        assert embedding.std().item() == pytest.approx(0.02, rel=0.02)
    block = layers["blocks.0"]
    weights = [*block.attention.qkv.weight.chunk(3), block.attention.projection.weight, layers["output"].weight]
    for weight in (*weights, block.expansion.weight, block.contraction.weight):
        assert weight.var().item() == pytest.approx(variance(*weight.shape[::-1]), rel=0.03)
    assert not layers["output"].bias.any()


def test_orthogonal_makes_each_of_queries_keys_and_values_orthogonal():
    model = Transformer((T,), 2, vocabulary_size=V, initialization="orthogonal")
    for part in model.blocks[0].attention.qkv.weight.chunk(3):
        torch.testing.assert_close(part @ part.T, torch.eye(128), atol=1e-5, rtol=0)


def test_default_keeps_what_torch_drew():
    torch.manual_seed(7)
    model = Transformer((T, F), 2, initialization="default")
    torch.manual_seed(7)
    embedding, positions, qkv = nn.Linear(F, 128), nn.Embedding(T, 128), nn.Linear(128, 384, bias=False)
    assert torch.equal(model.embedding.weight, embedding.weight)
    assert torch.equal(model.embedding.bias, embedding.bias)
    assert torch.equal(model.position_embedding.weight, positions.weight)
    assert torch.equal(model.blocks[0].attention.qkv.weight, qkv.weight)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_checkpoint_holds_all_that_a_network_is(tmp_path, optimizer):
    training = Training(
        task="next_token",
        optimizer=Optimizer(optimizer, 0.1, {"betas": (0.8, 0.9)}),
        regularization=Regularization(dropout=0.5, weight_decay=0.1),
        schedule=Schedule("cosine", warmup_steps=1),
    )
    arguments = {
        "input_shape": (T,),
        "output_size": V,
        "embedding_dim": 12,
        "num_layers": 2,
        "num_heads": 3,
        "feedforward_dim": 13,
        "activation": "tanh",
        "vocabulary_size": V,
        "padding_index": 0,
        "patch_size": None,
        "positions": "rotary",
        "initialization": "orthogonal",
        "normalization": "layer",
        "norm_first": False,
        "residual": True,
        "tie_weights": True,
        "training": training,
    }
    assert set(arguments) == set(inspect.signature(Transformer).parameters)
    model = Transformer(**arguments)
    before = model.output.weight.detach().clone()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    run.fit(model, BatchLoader((TOKENS, TOKENS), B))
    assert not torch.equal(model.output.weight, before)
    run.save_checkpoint(tmp_path / "run.ckpt")

    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"] == arguments
    loaded = Transformer.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert loaded.settings == training
    assert dict(loaded.hparams) == arguments
    assert loaded.output.weight is loaded.embedding.weight
    assert torch.equal(loaded.eval()(TOKENS), model.eval()(TOKENS))


TEXT = {"input_shape": (T,), "vocabulary_size": V}
IMAGE = {"input_shape": (1, 6, 9)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0; it must be at least 1"),
        ({"embedding_dim": 130}, "embedding_dim is 130; it must be a multiple of num_heads, 4"),
        (
            {"embedding_dim": 9, "num_heads": 3, "positions": "sinusoidal"},
            "embedding_dim is 9; sinusoidal positions ne",
        ),
        (
            {"embedding_dim": 12, "positions": "rotary"},
            "embedding_dim / num_heads is 3; rotary positions turn pairs of ",
        ),
        (
            {"positions": "learnt"},
            "unknown positions 'learnt'; did you mean 'learned'? (known: learned, sinusoidal, rot",
        ),
        ({"activation": "reul"}, "unknown activation 'reul'; did you mean 'relu'?"),
        ({"initialization": "gpt3"}, "unknown initialization 'gpt3'; did you mean 'gpt2'? (known: auto, default, "),
        ({"initialization": "he_norml"}, "unknown initialization 'he_norml'; did you mean 'he_normal'? (known: "),
        ({"normalization": "batch"}, "normalization 'batch' is not for sequences: its statistics would mix the steps"),
        (
            {"normalization": "none", "norm_first": False},
            "norm_first says where the norm stands, and normalization none",
        ),
        ({"padding_index": 11}, "padding_index is 11; the vocabulary's tokens are 0 to 10"),
        ({"tie_weights": True}, "tie_weights is for task next_token; this network's is multiclass"),
        ({"patch_size": 7}, "patch_size is for images (C, H, W); input_shape is (7,)"),
        (
            {"training": NEXT_TOKEN},
            "task next_token reads tokens and has one output for each: vocabulary_size is 11, out",
        ),
        (
            {"vocabulary_size": None},
            "input_shape (7,) is that of tokens, which need vocabulary_size; series of one numb",
        ),
        ({"input_shape": (7, 2)}, "input_shape is (7, 2); with vocabulary_size the input is tokens, (T,)"),
        ({"input_shape": (0,)}, "input_shape is (0,); every axis needs a length of at least 1"),
        (
            {"input_shape": (7, 2), "vocabulary_size": None, "padding_index": 0},
            "padding_index is for tokens, and goes wi",
        ),
        (
            {"input_shape": (7, 2), "vocabulary_size": None, "patch_size": 1},
            "patch_size is for images (C, H, W); input_s",
        ),
        (
            {"input_shape": (7, 2), "vocabulary_size": None, "training": NEXT_TOKEN},
            "task next_token reads tokens and has",
        ),
        (
            {"input_shape": (3, 5, 8, 8), "vocabulary_size": None},
            "input_shape is (3, 5, 8, 8); a Transformer reads token",
        ),
        (
            {**IMAGE, "vocabulary_size": None},
            "input_shape is (1, 6, 9); images need patch_size, the side of the squares",
        ),
        (
            {**IMAGE, "vocabulary_size": None, "patch_size": 2},
            "patch_size is 2; it must divide the image, which is 6 by 9",
        ),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Transformer(**TEXT | {"output_size": 2} | options)


def test_gpt2_is_named_among_the_initializations():
    with pytest.raises(
        ValueError,
        match=r", orthogonal, gpt2\), normal\(std\) or mean_field\(sigma_w2, sigma_b2\)$",
    ):
        Transformer(**TEXT, output_size=2, initialization="gtp2")
