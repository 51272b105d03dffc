import re

import pytest
import torch
from torch import nn

from unvanish.networks.generation import generate
from unvanish.networks.recurrent import Recurrent
from unvanish.networks.transformer import Transformer
from unvanish.training import Regularization, Training

# B texts, T tokens a network sees, V tokens in the vocabulary
B, T, V = 3, 7, 11
TRAINING = Training(task="next_token", regularization=Regularization(dropout=0.5))
TOKENS = torch.arange(B * 5).view(B, 5) ** 2 % V
TRANSFORMER = {"embedding_dim": 12, "num_heads": 3, "num_layers": 2, "initialization": "default"}
BUILDERS = {
    **{
        positions: lambda positions=positions: Transformer(
            (T,), V, vocabulary_size=V, positions=positions, **TRANSFORMER, training=TRAINING
        )
        for positions in ("learned", "sinusoidal", "rotary")
    },
    **{
        cell: lambda cell=cell: Recurrent(
            (T,), V, 13, num_layers=2, cell=cell, vocabulary_size=V, initialization="default", training=TRAINING
        )
        for cell in ("rnn", "lstm", "gru")
    },
}


def build(name):
    torch.manual_seed(7)
    return BUILDERS[name]().double()


class Table(nn.Module):
    """Logits that depend on the last token alone."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def extend(self, x, cache=None):
        return self.logits[x], cache


LOGITS = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5], [1.5, 0.0, 0.3, -2.0, 1.0]], dtype=torch.float64)
LOGITS = torch.cat([LOGITS, LOGITS[:1].expand(3, -1)])


def drawn(start, **options):
    """How often each token follows ``start``, of 50,000 draws."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.full((50_000, 1), start)
    return generate(Table(LOGITS), tokens, 1, generator=generator, **options)[:, 1].bincount(minlength=5)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_likeliest_token_follows_as_in_a_loop_by_hand(name, use_cache):
    model = build(name)
    text = TOKENS
    model.eval()
    for _ in range(13):
        seen = text[:, -T:] if isinstance(model, Transformer) else text
        text = torch.cat([text, model(seen)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(generate(model.train(), TOKENS, 13, temperature=0, use_cache=use_cache), text)
    assert len(text.unique()) > 2


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("length", [1, 5, T, T + 2])
def test_with_a_cache_and_without_the_same_text_is_drawn(name, length):
    model = build(name)
    tokens = torch.arange(B * length).view(B, length) ** 2 % V
    texts = [
        generate(model, tokens, 13, use_cache=use_cache, top_k=7, generator=torch.Generator().manual_seed(7))
        for use_cache in (True, False)
    ]
    assert torch.equal(*texts)
    assert texts[0].shape == (B, length + 13)
    assert torch.equal(texts[0][:, :length], tokens)


@pytest.mark.parametrize(
    ("name", "use_cache", "read"),
    [
        ("learned", True, [5, 1, 1, 7, 7]),
        ("learned", False, [5, 6, 7, 7, 7]),
        ("gru", True, [5, 1, 1, 1, 1]),
        ("gru", False, [5, 6, 7, 8, 9]),
    ],
)
def test_a_cache_spares_what_has_been_read_until_the_text_outgrows_the_context(name, use_cache, read, monkeypatch):
    model = build(name)
    extend, lengths = model.extend, []
    monkeypatch.setattr(model, "extend", lambda x, cache: (lengths.append(x.shape[1]), extend(x, cache))[1])
    generate(model, TOKENS, 5, use_cache=use_cache)
    assert lengths == read


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("start", [0, 1])
def test_tokens_are_drawn_with_the_probabilities_of_the_softmax(start, temperature):
    expected = (LOGITS[start] / temperature).softmax(0) * 50_000
    statistic = ((drawn(start, temperature=temperature) - expected) ** 2 / expected).sum().item()
    assert statistic < 18.47  # the 99.9 % quantile of chi-square with four degrees of freedom


@pytest.mark.parametrize(("top_k", "likeliest"), [(1, [3]), (2, [1, 3]), (3, [1, 3, 4])])
def test_top_k_draws_from_the_k_likeliest_and_keeps_their_proportions(top_k, likeliest):
    counts = drawn(0, top_k=top_k)
    expected = LOGITS[0, likeliest].softmax(0) * 50_000
    assert counts.nonzero().flatten().tolist() == likeliest
    assert ((counts[likeliest] - expected) ** 2 / expected).sum().item() < 13.82  # 99.9 %, two degrees of freedom


def test_top_k_is_exact_where_logits_are_equal_and_takes_all_where_there_are_no_more():
    ties = generate(Table(torch.zeros(5, 5)), torch.zeros(1000, 1, dtype=torch.int64), 1, top_k=3)
    assert len(ties[:, 1].unique()) == 3
    assert torch.equal(drawn(0, top_k=5), drawn(0))
    assert torch.equal(drawn(0, top_k=1000), drawn(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_temperature_near_zero_takes_the_likeliest_in_every_precision(dtype):
    model = Table(LOGITS.to(dtype))
    tokens = torch.tensor([[0], [1]])
    cold = generate(model, tokens, 5, temperature=1e-6)
    assert torch.equal(cold, generate(model, tokens, 5, temperature=0))
    assert cold[:, 1].tolist() == [3, 0]


def test_the_generator_alone_decides_and_torch_s_own_is_left_alone():
    model = build("learned")
    state = torch.get_rng_state()
    texts = [generate(model, TOKENS, 13, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 11)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_the_network_is_in_evaluation_mode_and_afterwards_as_it_was():
    model = build("learned").train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    seen = []
    model.dropout.register_forward_hook(lambda module, _, y: seen.append((module.training, y.requires_grad)))
    assert not generate(model, TOKENS, 3).requires_grad
    assert seen == [(False, False)] * 3
    assert [module.training for module in model.modules()] == modes
    model.dropout.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(model, TOKENS, 3)
    assert [module.training for module in model.modules()] == modes


def test_no_tokens_to_add_give_the_text_back():
    assert torch.equal(generate(build("learned"), TOKENS, 0), TOKENS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": TOKENS.int()}, "tokens are int64 (B, T), not torch.int32 (3, 5)"),
        ({"tokens": TOKENS[0]}, "tokens are int64 (B, T), not torch.int64 (5,)"),
        ({"tokens": TOKENS[:, :0]}, "there is no token to continue from; give at least one"),
        ({"count": -1}, "the number of tokens to add is -1; it must not be negative"),
        ({"temperature": -0.1}, "temperature is -0.1; it must be finite and not negative"),
        ({"temperature": float("inf")}, "temperature is inf; it must be finite and not negative"),
        ({"temperature": float("nan")}, "temperature is nan; it must be finite and not negative"),
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"model": nn.Linear(3, 5)}, "Linear has no method extend, which continues from token to token"),
    ],
)
def test_what_cannot_be_generated_is_refused(arguments, message):
    arguments = {"model": Table(LOGITS), "tokens": TOKENS, "count": 1} | arguments
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        generate(**arguments)
