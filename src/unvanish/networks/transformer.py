"""The Transformer, for texts, series and images.

Shapes: B samples, T tokens (or steps, or patches), S tokens with those of the cache, F features of a step or a patch,
D features of a token within, H heads, K = D/H features of a head, V tokens in the vocabulary, C outputs.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unvanish.activations import ActivationName
from unvanish.bounds import PositiveInt
from unvanish.names import lookup
from unvanish.networks.attention import Block, KeysValues
from unvanish.networks.initialization import find_scheme
from unvanish.networks.normalization import NormalizationName, build_normalization
from unvanish.networks.positions import rotation, sinusoids
from unvanish.networks.sizes import check_sequence
from unvanish.training import ReferenceModule, Training

log = logging.getLogger(__name__)

_POSITIONS = ("learned", "sinusoidal", "rotary")
_STD = 0.02  # GPT-2's, for its embeddings and its linear layers


@final
class Transformer(ReferenceModule):
    """Blocks of self-attention and a feed-forward network on a sequence of tokens (Vaswani et al. 2017).

    One network for three uses, which the task and the shape of the input tell apart:

    - next_token: a decoder like GPT-2 (Radford et al. 2019). No token looks at a later one.
    - other tasks on tokens or series: an encoder. Each token looks at all others but the padding, and the output reads
      the mean of all tokens but the padding.
    - images: the same on patches (Dosovitskiy et al. 2021), in the order of reading. Sinusoidal and rotary positions
      count the patches in that order too, not by rows and columns.

    Linear layers have no bias but for the embedding of steps and patches, and the output where it is not next_token's:
    a bias of the keys would have no gradient at all. Before the output of a pre-LN network stands one more norm: of
    each token for next_token, else of the mean, which learns MNIST faster than norms under the mean or a class token.

    Args:
        input_shape: (T,) for tokens, (T, F) for series, (C, H, W) for images. Shorter texts and series can be read too.
        output_size: Number of outputs: classes, regression targets, tokens, or 1 for a binary task.
        embedding_dim: D.
        num_layers: Blocks.
        num_heads: H, a divisor of D.
        feedforward_dim: Hidden units of the feed-forward networks; 4 D, if None.
        vocabulary_size: V, where the input is tokens.
        padding_index: The token that pads a text at its end; an empty text is read as one such token.
        patch_size: Side of a patch in pixels, for images; it divides height and width.
        positions: learned; sinusoidal, to which the embedding is added times sqrt(D) (Vaswani et al. 2017, 3.4 and
            3.5); or rotary (Su et al. 2021).
        activation: Of the feed-forward networks.
        initialization: auto (gpt2), gpt2, default (torch's), xavier_uniform, xavier_normal, he_uniform, he_normal,
            lecun_normal, orthogonal, normal(std) or mean_field(sigma_w2, 0): see ``initialize``. gpt2 draws all weights
            from N(0, 0.02^2), and those by which a block adds to the residual stream from 1/sqrt(2 num_layers) of that
            (Radford et al. 2019). The others are for the linear layers, queries, keys and values each by themselves;
            embeddings stay N(0, 0.02^2) but for default.
        normalization: none or layer (Ba et al. 2016).
        norm_first: Normalize what goes into attention and the feed-forward network (pre-LN); else the residual stream
            behind each of them (post-LN), which needs the learning rate warmed up (Xiong et al. 2020).
        residual: Add its input to the output of attention, and of the feed-forward network.
        tie_weights: Let the embedding be the weight of the output too (Press and Wolf 2017), for next_token.
        training: The shared training configuration. Dropout acts on the embedded tokens, the attention weights, and the
            outputs of attention and of the feed-forward networks.

    Raises:
        ValueError: a name, a size or a combination is wrong.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        output_size: PositiveInt,
        embedding_dim: PositiveInt = 128,
        num_layers: PositiveInt = 4,
        num_heads: PositiveInt = 4,
        feedforward_dim: PositiveInt | None = None,
        vocabulary_size: PositiveInt | None = None,
        padding_index: int | None = None,
        patch_size: PositiveInt | None = None,
        positions: Literal["learned", "sinusoidal", "rotary"] = "learned",
        activation: ActivationName = "gelu",
        initialization: str = "auto",
        normalization: NormalizationName = "layer",
        norm_first: bool = True,
        residual: bool = True,
        tie_weights: bool = False,
        training: Training = Training(),
    ) -> None:
        super().__init__(training)
        lookup("positions", positions, dict.fromkeys(_POSITIONS))
        _check_heads(embedding_dim, num_heads, positions)
        check_sequence(tuple(input_shape), vocabulary_size, padding_index)
        length, features = _sequence(tuple(input_shape), vocabulary_size, patch_size)
        is_decoder = training.task == "next_token"
        if is_decoder and vocabulary_size != output_size:
            raise ValueError(
                f"task next_token reads tokens and has one output for each: vocabulary_size is {vocabulary_size}, "
                f"output_size {output_size}"
            )
        if tie_weights and not is_decoder:
            raise ValueError(f"tie_weights is for task next_token; this network's is {training.task}")
        if normalization == "none" and not norm_first:
            raise ValueError("norm_first says where the norm stands, and normalization none has none; leave it true")
        self.length = length
        self.context = length if is_decoder else None
        self.padding_index = padding_index
        self.patch_size = patch_size
        self.positions = positions
        self.head_size = embedding_dim // num_heads
        dropout = training.regularization.dropout
        self.embedding: nn.Embedding | nn.Linear = (
            nn.Linear(features, embedding_dim)
            if vocabulary_size is None
            else nn.Embedding(vocabulary_size, embedding_dim, padding_idx=padding_index)
        )
        self.position_embedding = nn.Embedding(length, embedding_dim) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                embedding_dim,
                num_heads,
                feedforward_dim or 4 * embedding_dim,
                activation,
                normalization,
                norm_first,
                residual,
                dropout,
            )
            for _ in range(num_layers)
        )
        self.normalization = build_normalization(normalization if norm_first else "none", embedding_dim, "sequences")
        self.output = nn.Linear(embedding_dim, output_size, bias=not is_decoder)
        if tie_weights:
            self.embedding.weight = self.output.weight
        self._initialize(initialization, activation, residual)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> logits (B, C), (B,) for a binary task, (B, T, V) for next_token."""
        if self.settings.task == "next_token":
            return self.extend(x)[0]
        if self.patch_size is not None:
            x = F.unfold(x, self.patch_size, stride=self.patch_size).transpose(1, 2)  # (B, C, H, W) -> (B, T, F)
        if self.padding_index is None:
            h = self._run(x)[0].mean(dim=1)  # (B, T, D) -> (B, D)
        else:
            seen = x != self.padding_index  # (B, T)
            seen[:, 0] = True
            h, _ = self._run(x, mask=seen[:, None, None])
            h = (h * seen.unsqueeze(-1)).sum(dim=1) / seen.sum(dim=1, keepdim=True)
        return self.logits_of(self.output(self.normalization(h)))

    def extend(self, x: Tensor, cache: list[KeysValues] | None = None) -> tuple[Tensor, list[KeysValues]]:
        """Logits (B, T, V) of tokens (B, T) that follow those in ``cache``, and the cache that includes them.

        Args:
            x: The tokens.
            cache: The result of the previous call: the keys and values of each block; None at the beginning of a text.

        Raises:
            ValueError: the task is not next_token, or these are more tokens than the network has positions.
        """
        if self.settings.task != "next_token":
            raise ValueError(f"extend is for task next_token; this network's is {self.settings.task}")
        h, cache = self._run(x, cache, causal=True)
        return self.output(self.normalization(h)), cache

    def _run(
        self, x: Tensor, cache: list[KeysValues] | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> tuple[Tensor, list[KeysValues]]:
        """The last block's output (B, T, D), and the keys and values of each block."""
        start = 0 if cache is None else cache[0][0].shape[2]
        end = start + x.shape[1]
        if end > self.length:
            raise ValueError(f"the input has {end} tokens, and the network positions for {self.length}")
        if start and causal:
            causal = False
            if end - start > 1:  # a single token looks at all before it
                mask = torch.ones(end - start, end, dtype=torch.bool, device=x.device).tril(start)  # (T, S)
        steps = torch.arange(start, end, device=x.device)
        h = self.embedding(x)  # (B, T) or (B, T, F) -> (B, T, D)
        if self.position_embedding is not None:
            h = h + self.position_embedding(steps)
        elif self.positions == "sinusoidal":
            h = h * math.sqrt(h.shape[-1]) + sinusoids(steps, h.shape[-1], h.dtype)
        turn = rotation(steps, self.head_size, h.dtype) if self.positions == "rotary" else None
        h = self.dropout(h)
        after = []
        for index, block in enumerate(self.blocks):
            h, past = block(h, mask, causal, turn, cache[index] if cache else None)
            after.append(past)
        return h, after

    @torch.no_grad()
    def _initialize(self, name: str, activation: str, residual: bool) -> None:
        if name == "auto":
            name = "gpt2"
            log.info("initialization auto: gpt2")
        if scheme := find_scheme(name, activation, {"gpt2": partial(nn.init.normal_, std=_STD)}):
            self._draw(scheme)
        if name == "gpt2" and residual:
            for layer, weight in self.named_parameters():
                if layer.endswith(("attention.projection.weight", "contraction.weight")):
                    weight.div_(math.sqrt(2 * len(self.blocks)))
        if self.padding_index is not None:
            self.embedding.weight[self.padding_index] = 0

    def _draw(self, scheme: Callable[[Tensor], Tensor]) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                for part in module.weight.chunk(3 if name.endswith("qkv") else 1):
                    scheme(part)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():  # after the output, whose weight may be the embedding's
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=_STD)


def _check_heads(embedding_dim: int, num_heads: int, positions: str) -> None:
    """Refuse heads that do not share the features evenly, and an odd number of features where they go by pairs."""
    if embedding_dim % num_heads:
        raise ValueError(f"embedding_dim is {embedding_dim}; it must be a multiple of num_heads, {num_heads}")
    if positions == "sinusoidal" and embedding_dim % 2:
        raise ValueError(f"embedding_dim is {embedding_dim}; sinusoidal positions need an even number")
    if positions == "rotary" and (size := embedding_dim // num_heads) % 2:
        raise ValueError(
            f"embedding_dim / num_heads is {size}; rotary positions turn pairs of features and need an even number"
        )


def _sequence(shape: tuple[int, ...], vocabulary_size: int | None, patch_size: int | None) -> tuple[int, int]:
    """The tokens T of an input, and the features F of each where they are not from a vocabulary.

    Raises:
        ValueError: the shape is neither that of tokens nor of series nor of images, or patches do not go with it.
    """
    if patch_size is not None and (vocabulary_size is not None or len(shape) != 3):
        raise ValueError(f"patch_size is for images (C, H, W); input_shape is {shape}")
    if vocabulary_size is not None:
        return shape[0], 0
    if len(shape) == 2:
        return shape
    if len(shape) != 3:
        raise ValueError(
            f"input_shape is {shape}; a Transformer reads tokens (T,) with vocabulary_size, series (T, F) or images "
            "(C, H, W)"
        )
    channels, height, width = shape
    if patch_size is None:
        raise ValueError(f"input_shape is {shape}; images need patch_size, the side of the squares they are cut into")
    if height % patch_size or width % patch_size:
        raise ValueError(f"patch_size is {patch_size}; it must divide the image, which is {height} by {width} pixels")
    return height // patch_size * (width // patch_size), channels * patch_size**2
