import math
from functools import partial

import pytest
import torch
from torch import nn

from unvanish.gradients import GradientRecorder
from unvanish.networks.attention import SelfAttention
from unvanish.networks.transformer import Transformer
from unvanish.training import Regularization, Training
from unvanish.training.muon import hidden_matrices

# B samples, T tokens, V tokens in the vocabulary, F features, D = H K
B, T, V, F, H, K, D = 5, 7, 11, 2, 3, 4, 12
NEXT_TOKEN = Training(task="next_token")
TOKENS = torch.arange(B * T).view(B, T).square() % (V - 1) + 1  # padding is 0
SERIES = torch.linspace(-2, 3, B * T * F, dtype=torch.float64).sin().view(B, T, F)
IMAGES = torch.linspace(-2, 3, B * 2 * 6 * 9, dtype=torch.float64).cos().view(B, 2, 6, 9)
KINDS = {
    "decoder": (TOKENS, {"output_size": V, "vocabulary_size": V, "training": NEXT_TOKEN}),
    "encoder": (TOKENS, {"output_size": 2, "vocabulary_size": V}),
    "series": (SERIES, {"output_size": 2}),
    "vision": (IMAGES, {"output_size": 2, "patch_size": 3}),
}
SMALL = {"embedding_dim": D, "num_heads": H, "num_layers": 2, "feedforward_dim": 13, "activation": "tanh"}


def build(kind, **options):
    """A network in float64 whose parameters are waves, and its input."""
    x, arguments = KINDS[kind]
    model = Transformer(tuple(x.shape[1:]), **SMALL | arguments | options).double()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            wave = torch.arange(parameter.numel(), dtype=torch.float64) * (1.7 + index)
            parameter.copy_(wave.sin().view_as(parameter))
    return model, x


def layer_norm(x, gain, shift):
    mean = x.sum(-1, keepdim=True) / x.shape[-1]
    variance = ((x - mean) ** 2).sum(-1, keepdim=True) / x.shape[-1]
    return gain * (x - mean) / (variance + 1e-5) ** 0.5 + shift


def turned(x):
    """(T, K) with features i and i + K/2 as one complex number, turned by t / 10000^(2i/K)."""
    half = x.shape[-1] // 2
    rates = torch.tensor([10000 ** (-2 * i / x.shape[-1]) for i in range(half)], dtype=torch.float64)
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * rates
    z = torch.complex(x[:, :half], x[:, half:]) * torch.exp(1j * angles)
    return torch.cat([z.real, z.imag], dim=-1)


def attention(x, qkv, projection, allowed, rotary=False):
    """Of one sample (T, D), head by head; allowed is (T, T)."""
    wq, wk, wv = qkv.view(3, H, K, D)
    outputs = []
    for head in range(H):
        q, k, v = x @ wq[head].T, x @ wk[head].T, x @ wv[head].T
        if rotary:
            q, k = turned(q), turned(k)
        scores = torch.where(allowed, q @ k.T / q.shape[-1] ** 0.5, -math.inf).exp()
        outputs.append(scores / scores.sum(-1, keepdim=True) @ v)
    return torch.cat(outputs, dim=-1) @ projection.T


def feedforward(x, into, out):
    return (x @ into.T).tanh() @ out.T


def patches(image, size):
    rows, columns = (range(0, length, size) for length in image.shape[1:])
    return torch.stack([image[:, r : r + size, c : c + size].flatten() for r in rows for c in columns])


def by_hand(model, x, kind, positions="learned", normalization="layer", norm_first=True, residual=True, real=None):
    """Logits of one sample, from the tensors of a state dict; ``real`` (T,) says which tokens are not padding."""
    w = model.state_dict()
    if kind in ("decoder", "encoder"):
        h = torch.stack([w["embedding.weight"][token] for token in x.tolist()])
    else:
        h = (patches(x, 3) if kind == "vision" else x) @ w["embedding.weight"].T + w["embedding.bias"]
    length, size = h.shape
    if positions == "learned":
        h = h + w["position_embedding.weight"][:length]
    elif positions == "sinusoidal":
        waves = [math.sin, math.cos]
        table = [[waves[j % 2](t / 10000 ** ((j - j % 2) / size)) for j in range(size)] for t in range(length)]
        h = h * size**0.5 + torch.tensor(table, dtype=torch.float64)
    steps = torch.arange(length)
    allowed = steps[:, None] >= steps if kind == "decoder" else torch.ones(length, length, dtype=torch.bool)
    if real is not None:
        allowed = allowed & real

    def norm(h, name):
        return h if normalization == "none" else layer_norm(h, w[f"{name}.weight"], w[f"{name}.bias"])

    def join(h, name, sublayer):
        skip = h if residual else 0
        return skip + sublayer(norm(h, name)) if norm_first else norm(skip + sublayer(h), name)

    for i in range(2):
        qkv, projection, into, out = (
            w[f"blocks.{i}.{name}.weight"]
            for name in ("attention.qkv", "attention.projection", "expansion", "contraction")
        )
        attend = partial(attention, qkv=qkv, projection=projection, allowed=allowed, rotary=positions == "rotary")
        h = join(h, f"blocks.{i}.attention_norm", attend)
        h = join(h, f"blocks.{i}.feedforward_norm", partial(feedforward, into=into, out=out))
    if kind != "decoder":
        h = h.mean(0) if real is None else h[real].sum(0) / real.sum()
    if norm_first:
        h = norm(h, "normalization")
    return h @ w["output.weight"].T + w.get("output.bias", 0)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_forward_is_the_formula(kind, positions):
    model, x = build(kind, positions=positions)
    close(model(x), torch.stack([by_hand(model, sample, kind, positions) for sample in x]))


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("normalization", "norm_first"), [("layer", True), ("layer", False), ("none", True)])
def test_the_norm_and_the_residual_connection_stand_where_they_should(kind, residual, normalization, norm_first):
    options = {"normalization": normalization, "norm_first": norm_first, "residual": residual}
    model, x = build(kind, **options)
    close(model(x), torch.stack([by_hand(model, sample, kind, **options) for sample in x]))


def test_attention_is_the_formula_under_any_mask():
    torch.manual_seed(7)
    layer = SelfAttention(D, H, dropout=0.0).double()
    x = torch.randn(B, T, D, dtype=torch.float64)
    mask = (torch.arange(B * T * T) % 3 > 0).view(B, 1, T, T) | torch.eye(T, dtype=torch.bool)
    y, (k, v) = layer(x, mask)
    weights = layer.qkv.weight, layer.projection.weight
    close(y, torch.stack([attention(x[b], *weights, mask[b, 0]) for b in range(B)]))
    assert k.shape == v.shape == (B, H, T, K)
    close(v[1, 2], x[1] @ layer.qkv.weight[2 * D + 2 * K :].T)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_a_token_of_a_decoder_sees_itself_and_all_before_it_and_none_after(positions):
    model, x = build("decoder", positions=positions)
    before = model(x)
    for t in range(T):
        changed = x.clone()
        changed[:, t] = x[:, t] % (V - 1) + 1
        moved = (model(changed) - before).abs().amax(-1) > 1e-6
        assert not moved[:, :t].any()
        assert moved[:, t:].all()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_an_encoder_knows_the_order_of_its_tokens(positions):
    model, x = build("encoder", positions=positions)
    assert ((model(x.roll(1, 1)) - model(x)).abs() > 1e-6).all()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_padding_has_no_influence(positions):
    model, _ = build("encoder", positions=positions, padding_index=0)
    lengths = [1, 2, 3, 5, 7]
    x = TOKENS * (torch.arange(T) < torch.tensor(lengths)[:, None])
    logits = model(x)
    for sample, length, row in zip(x, lengths, logits, strict=True):
        close(row, model(sample[None, :length])[0])
        close(row, by_hand(model, sample, "encoder", positions, real=sample != 0))
    with torch.no_grad():
        model.embedding.weight[0] = 1e3
    close(model(x), logits)
    logits.sum().backward()
    assert not model.embedding.weight.grad[0].any()


def test_an_empty_text_is_read_as_one_padding_token():
    model, _ = build("encoder", padding_index=0)
    empty = torch.zeros(1, T, dtype=torch.int64)
    close(model(empty), by_hand(model, empty[0], "encoder", real=torch.arange(T) == 0)[None])


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("pieces", [[1] * T, [2, 5], [4, 1, 2], [T]])
def test_tokens_that_come_in_pieces_are_read_as_those_that_come_at_once(positions, pieces):
    model, x = build("decoder", positions=positions)
    logits, cache = [], None
    for piece in x.split(pieces, dim=1):
        part, cache = model.extend(piece, cache)
        logits.append(part)
    close(torch.cat(logits, dim=1), model(x))
    assert [tuple(tensor.shape) for pair in cache for tensor in pair] == [(B, H, T, K)] * 4


@pytest.mark.parametrize(
    ("kind", "task", "outputs", "shape"),
    [
        ("encoder", "binary", 1, (B,)),
        ("encoder", "multiclass", 3, (B, 3)),
        ("series", "regression", 1, (B, 1)),
        ("series", "binary", 1, (B,)),
        ("vision", "multiclass", 3, (B, 3)),
        ("vision", "binary", 1, (B,)),
        ("decoder", "next_token", V, (B, T, V)),
    ],
)
def test_logits_have_the_shape_of_the_task(kind, task, outputs, shape):
    model, x = build(kind, output_size=outputs, training=Training(task=task))
    assert model(x).shape == shape
    assert model(x[:1]).shape == (1, *shape[1:])


def test_only_a_decoder_goes_on_from_token_to_token_and_up_to_its_last_position():
    model, x = build("encoder")
    with pytest.raises(ValueError, match=r"^extend is for task next_token; this network's is multiclass$"):
        model.extend(x)
    model, x = build("decoder")
    _, cache = model.extend(x)
    with pytest.raises(ValueError, match=r"^the input has 9 tokens, and the network positions for 7$"):
        model.extend(x[:, :2], cache)


@pytest.mark.parametrize("initialization", ["gpt2", "xavier_normal"])
def test_tied_weights_are_one_tensor_that_learns_from_both_of_its_uses(initialization):
    torch.manual_seed(7)
    model = Transformer(
        (64,), 251, vocabulary_size=251, tie_weights=True, initialization=initialization, training=NEXT_TOKEN
    )
    assert model.output.weight is model.embedding.weight
    assert model.output.weight.std().item() == pytest.approx(0.02, rel=0.02)
    tied, x = build("decoder", tie_weights=True)
    apart, _ = build("decoder")
    apart.load_state_dict(tied.state_dict())
    close(tied(x), apart(x))
    for model in (tied, apart):
        model(x).sin().sum().backward()
    close(tied.output.weight.grad, apart.output.weight.grad + apart.embedding.weight.grad)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_muon_gets_the_matrices_of_the_blocks_and_no_others(tie_weights):
    model, _ = build("decoder", tie_weights=tie_weights)
    blocks = [parameter for parameter in model.blocks.parameters() if parameter.dim() == 2]
    assert [id(weight) for weight in hidden_matrices(model)] == [id(weight) for weight in blocks]
    assert len(blocks) == 8


def test_dropout_zeroes_attention_weights_in_training_and_keeps_their_mean():
    torch.manual_seed(7)
    layer, steps = SelfAttention(1, 1, dropout=0.2), 101
    nn.init.zeros_(layer.qkv.weight)
    nn.init.ones_(layer.qkv.weight[2:])
    nn.init.ones_(layer.projection.weight)
    ones = torch.ones(307, steps, 1)
    y = layer.train()(ones)[0]  # each is a mean of 101 weights that are 0 or 1/0.8
    kept = y * steps * 0.8
    torch.testing.assert_close(kept, kept.round(), atol=1e-3, rtol=0)
    assert y.mean().item() == pytest.approx(1, abs=0.001)
    assert y.var().item() == pytest.approx(0.2 / 0.8 / steps, rel=0.03)
    torch.testing.assert_close(layer.eval()(ones)[0], ones)


def test_dropout_acts_on_the_embedded_tokens_and_on_each_sublayer_s_output():
    model, x = build("decoder", training=Training(task="next_token", regularization=Regularization(dropout=0.5)))
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(
                lambda _, inputs, y, name=name: seen.setdefault(name, []).append((inputs[0], y))
            )
    model.train()(x)
    assert {name: len(calls) for name, calls in seen.items()} == {
        "dropout": 1,
        "blocks.0.dropout": 2,
        "blocks.1.dropout": 2,
    }
    h, y = seen["dropout"][0]
    close(h, model.embedding(x) + model.position_embedding.weight)
    close(y[y != 0], 2 * h[y != 0])
    for calls in seen.values():
        for before, after in calls:
            assert 0.3 < (after == 0).double().mean() < 0.7
            close(after[after != 0], 2 * before[after != 0])


@pytest.mark.parametrize(("kind", "tie_weights"), [("decoder", True), ("decoder", False), ("encoder", False)])
def test_the_gradient_of_every_layer_is_recorded(kind, tie_weights):
    model, x = build(kind, tie_weights=tie_weights)
    outputs = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.register_forward_hook(lambda _, __, z, name=name: (z.retain_grad(), outputs.update({name: z}))[0])
    with GradientRecorder(model, first_steps=1) as recorder:
        model.training_loss(model(x), x if kind == "decoder" else x[:, 0] % 2).backward()
        recorder.before_step(0)
        (record,) = recorder.flush()
    shared = "dL/dW of output was not measured: its weight is another layer's as well, and shown there"
    assert recorder.notes == ([shared] if tie_weights else [])
    assert len(outputs) == 3 + 4 * 2
    expected = {name: z.grad.norm().item() for name, z in outputs.items()}
    assert record.values["delta_norm"] == pytest.approx(expected, rel=1e-4)
    assert list(record.values["delta_norm"])[::10] == ["embedding", "output"]
    assert recorder.activations["blocks.1.expansion"] == "tanh"
