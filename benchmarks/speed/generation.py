"""Generation with a cache beside Hugging Face's ``generate``: GPT-2's architecture with the same weights."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.speed.row import Row, in_turns
from unvanish import Training, Transformer
from unvanish.networks.generation import generate

VOCABULARY, CONTEXT, WIDTH, LAYERS, HEADS, PROMPT = 65, 256, 128, 4, 4, 16
TARGET = 0.5


def ours() -> Transformer:
    """A decoder of the size of recipes/transformer, without dropout."""
    torch.manual_seed(0)
    sizes = {"embedding_dim": WIDTH, "num_layers": LAYERS, "num_heads": HEADS, "vocabulary_size": VOCABULARY}
    return Transformer((CONTEXT,), VOCABULARY, **sizes, training=Training(task="next_token")).eval()


def theirs(network: Transformer) -> nn.Module:
    """GPT-2 with the weights of ours; the biases that ours lacks are zero."""
    import transformers  # noqa: PLC0415 - a peer, and no dependency

    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        activation_function="gelu",
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    names = {
        "transformer.wte": "embedding",
        "transformer.wpe": "position_embedding",
        "transformer.ln_f": "normalization",
        "lm_head": "output",
    }
    within = {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.qkv",
        "attn.c_proj": "attention.projection",
        "ln_2": "feedforward_norm",
        "mlp.c_fc": "expansion",
        "mlp.c_proj": "contraction",
    }
    for layer in range(LAYERS):
        names |= {f"transformer.h.{layer}.{name}": f"blocks.{layer}.{own}" for name, own in within.items()}
    with torch.no_grad():
        for name, own in names.items():
            source, target = network.get_submodule(own), model.get_submodule(name)
            is_turned = type(target).__name__ == "Conv1D"  # which keeps (in, out)
            target.weight.copy_(source.weight.T if is_turned else source.weight)
            if getattr(target, "bias", None) is not None:
                target.bias.zero_() if getattr(source, "bias", None) is None else target.bias.copy_(source.bias)
    return model


def seconds(work: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rows(root: Path) -> Iterator[Row]:
    """Milliseconds a token, the likeliest each time."""
    network = ours()
    peer = theirs(network)
    for texts, count in ((1, 200), (16, 200)):
        tokens = torch.randint(VOCABULARY, (texts, PROMPT), generator=torch.Generator().manual_seed(1))

        def own(tokens: Tensor = tokens, count: int = count) -> Tensor:
            return generate(network, tokens, count, temperature=0)

        def hugging_face(tokens: Tensor = tokens, count: int = count) -> Tensor:
            options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "use_cache": True}
            return peer.generate(tokens, attention_mask=torch.ones_like(tokens), **options)

        if not torch.equal(own(), hugging_face()):
            raise SystemExit("the two have not written the same tokens")
        times = in_turns({"ours": lambda own=own: seconds(own), "theirs": lambda peer=hugging_face: seconds(peer)})
        a_token = {name: tuple(1000 * time / count for time in found) for name, found in times.items()}
        work = f"{count} tokens, {LAYERS} layers of {WIDTH}, batch {texts}"
        yield Row(
            work, "Hugging Face generate", a_token["ours"], a_token["theirs"], "ms a token", TARGET, "same tokens"
        )
