"""Self-attention of many heads, and the block of a Transformer around it.

Shapes: B samples, T tokens, S tokens with those of the cache, D features of a token, H heads, K = D/H features of a
head.
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unvanish.activations import build_activation
from unvanish.networks.normalization import build_normalization
from unvanish.networks.positions import rotate

#: The keys and values of the tokens so far, (B, H, S, K) each.
KeysValues = tuple[Tensor, Tensor]


@final
class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(K) + mask) V in each head, and a linear map of all of them (Vaswani et al. 2017, 3.2).

    Args:
        embedding_dim: D.
        num_heads: H, a divisor of D.
        dropout: Probability that an attention weight is zeroed in training.
    """

    def __init__(self, embedding_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(embedding_dim, 3 * embedding_dim, bias=False)
        self.projection = nn.Linear(embedding_dim, embedding_dim, bias=False)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        turn: tuple[Tensor, Tensor] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """(B, T, D) -> (B, T, D), and the keys and values of the past with those of x.

        Args:
            x: The tokens.
            mask: True where a token (T) may look at another (S); anything that broadcasts to (B, H, T, S).
            causal: Look at no later token; without past and mask.
            turn: The rotation of queries and keys by their positions.
            past: The keys and values of the tokens before x.
        """
        # (B, T, 3D) -> (B, T, 3, H, K) -> (3, B, H, T, K) -> three of (B, H, T, K)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)  # (B, H, S, K)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        y = y.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, H, K) -> (B, T, D)
        return self.projection(y), (k, v)


@final
class Block(nn.Module):
    """Self-attention, then a feed-forward network for each token by itself; each of the two is a sublayer f.

    x becomes x + dropout(f(normalization(x))) where the norm is first (pre-LN, Radford et al. 2019), or
    normalization(x + dropout(f(x))) (post-LN, Vaswani et al. 2017). Without ``residual`` there is no ``x +``.

    Args:
        embedding_dim: D.
        num_heads: H, a divisor of D.
        feedforward_dim: Hidden units of the feed-forward network.
        activation: Its activation, by name.
        normalization: none or layer.
        norm_first: Whether the norm is first.
        residual: Whether x is added.
        dropout: Probability that an attention weight, or a feature of f(x), is zeroed in training.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        feedforward_dim: int,
        activation: str,
        normalization: str,
        norm_first: bool,
        residual: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.residual = residual
        self.attention_norm = build_normalization(normalization, embedding_dim, "sequences")
        self.attention = SelfAttention(embedding_dim, num_heads, dropout)
        self.feedforward_norm = build_normalization(normalization, embedding_dim, "sequences")
        self.expansion = nn.Linear(embedding_dim, feedforward_dim, bias=False)
        self.activation = build_activation(activation)
        self.contraction = nn.Linear(feedforward_dim, embedding_dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        turn: tuple[Tensor, Tensor] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """(B, T, D) -> (B, T, D), and what ``past`` is for the next tokens; the arguments are those of attention."""
        inner = self.attention_norm(x) if self.norm_first else x
        y, past = self.attention(inner, mask, causal, turn, past)
        x = self._join(x, y, self.attention_norm)
        inner = self.feedforward_norm(x) if self.norm_first else x
        y = self.contraction(self.activation(self.expansion(inner)))
        return self._join(x, y, self.feedforward_norm), past

    def _join(self, x: Tensor, y: Tensor, norm: nn.Module) -> Tensor:
        y = self.dropout(y)
        if self.residual:
            y = x + y
        return y if self.norm_first else norm(y)
