"""Texts that a next-token network continues.

Shapes: B texts, T tokens, V tokens in the vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from unvanish.bounds import NonNegativeFloat, PositiveInt, check_bounds


@torch.no_grad()
def generate(
    model: nn.Module,
    tokens: Tensor,
    count: int,
    *,
    temperature: NonNegativeFloat = 1.0,
    top_k: PositiveInt | None = None,
    use_cache: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue ``tokens`` (B, T), int64: (B, T + count), each token drawn from the network's distribution given those
    before it.

    Args:
        model: A network with ``extend(x, cache) -> (logits, cache)``. Where it has a ``context``, a number of tokens,
            it is shown that many of the last ones, at its first positions; beyond them nothing can be kept.
        tokens: The texts to continue, on the network's device.
        count: How many tokens to add.
        temperature: Divides the logits; below 1 likely tokens become likelier, and 0 takes the likeliest.
        top_k: Draw from the k likeliest tokens only; from all if there are fewer.
        use_cache: Keep what ``extend`` returns instead of reading all tokens again for each new one. The result is the
            same.
        generator: Draws the tokens, on the network's device; torch's own, if None.

    Raises:
        ValueError: an argument is out of its range, or the network has no ``extend``.
    """
    extend: Any = getattr(model, "extend", None)
    if extend is None:
        raise ValueError(f"{type(model).__name__} has no method extend, which continues from token to token")
    check_bounds(generate, locals())
    _check(tokens, count)
    context: int | None = getattr(model, "context", None)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    length = tokens.shape[1]
    text = torch.cat([tokens, tokens.new_empty(len(tokens), count)], dim=1)
    cache, begin = None, 0  # the tokens before begin are in the cache
    try:
        for end in range(length, length + count):
            first = 0 if context is None else max(0, end - context)
            if first or not use_cache:
                cache, begin = None, first
            logits, cache = extend(text[:, begin:end], cache)
            text[:, end] = _draw(logits[:, -1], temperature, top_k, generator)
            begin = end
    finally:
        for module, mode in modes:
            module.training = mode
    return text


def _check(tokens: Tensor, count: int) -> None:
    if tokens.dtype != torch.int64 or tokens.dim() != 2:
        raise ValueError(f"tokens are int64 (B, T), not {tokens.dtype} {tuple(tokens.shape)}")
    if not tokens.shape[1]:
        raise ValueError("there is no token to continue from; give at least one")
    if count < 0:
        raise ValueError(f"the number of tokens to add is {count}; it must not be negative")


def _draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> Tensor:
    """(B, V) -> one token for each text, (B,)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    tokens = None
    if top_k is not None and top_k < logits.shape[-1]:
        logits, tokens = logits.topk(top_k)  # (B, k)
    # The largest becomes 0, which no temperature makes infinite.
    shares = ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)
    drawn = shares.multinomial(1, generator=generator)  # (B, 1)
    return (drawn if tokens is None else tokens.gather(1, drawn)).squeeze(1)
