"""Attention over the wrong axis, by what autograd's graph tells of a softmax and of what its numbers weigh."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from trained import CLASSES, COLUMNS, WIDTH, adam, ill, near, trained

from unvanish.gradients.attention import Astray, astray
from unvanish.gradients.judge.rules import ATTENTION_AXIS

ROWS, LENGTH = 48, 7


class Attention(nn.Module):
    """Looks up in a sequence what stands where the first column is largest."""

    def __init__(self, weigh):
        super().__init__()
        torch.manual_seed(0)
        self.weigh = weigh
        self.enter = nn.Linear(COLUMNS, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.score, self.leave = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        h = self.enter(x)
        return self.leave(self.weigh(self, h, self.q(h) @ self.k(h).transpose(1, 2) / WIDTH**0.5))


def data(step):
    x = torch.randn(ROWS, LENGTH, COLUMNS, generator=torch.Generator().manual_seed(step))
    return x, x[torch.arange(ROWS), x[:, :, 0].argmax(1), 1 : 1 + CLASSES].argmax(1)


def attend(axis):
    return lambda m, h, scores: h[:, 0] + (scores.softmax(axis) @ m.v(h))[:, 0]


def pool(axis):
    return lambda m, h, scores: (m.score(h).softmax(axis) * m.v(h)).sum(1)


def run(weigh, steps=20):
    model = Attention(weigh)
    return trained(model, data, F.cross_entropy, adam(model, 0.01), steps).end


@ill(ATTENTION_AXIS)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_softmax_over_samples_or_queries(axis):
    weighs = "48x7x7 numbers gives weights for a sum over axis 2"
    return run(attend(axis)), f"a softmax over axis {axis} of {weighs}"


@ill(ATTENTION_AXIS)
def test_a_softmax_over_the_single_score_of_each_step():
    return run(pool(-1)), "a softmax over axis 2 of 48x7x1 numbers gives weights for a sum over axis 1"


@near(ATTENTION_AXIS)
@pytest.mark.parametrize("weigh", [attend(-1), pool(1)], ids=["dot products", "pooling"])
def test_weights_of_what_is_summed(weigh):
    return run(weigh, 150)


Q, K, V = (2 * torch.randn(2, 3, 5, 4, requires_grad=True) for _ in range(3))
KEYS = (Q @ K.transpose(-2, -1)).softmax(-1)
QUERIES = (Q @ K.transpose(-2, -1)).softmax(-2)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (F.dropout(KEYS, 0.1) @ V, []),
        ((Q[:, :, :1] @ K[:, :, :1].transpose(-2, -1)).softmax(-1) @ V[:, :, :1], []),
        (F.dropout(QUERIES, 0.1) @ V, [Astray(2, 3, (2, 3, 5, 5), is_attention=True)]),
        (torch.einsum("bhij,bhjd->bhid", KEYS, V), []),
        (torch.einsum("bhij,bhjd->bhid", QUERIES, V), [Astray(2, 3, (2, 3, 5, 5), is_attention=True)]),
        (QUERIES.transpose(-2, -1) @ V, []),  # as in co-attention
        (V.transpose(-2, -1) @ QUERIES, []),
        (Q.softmax(-1) @ (K.softmax(-2).transpose(-2, -1) @ V), []),  # as in linear attention
        (QUERIES / QUERIES.sum(-1, keepdim=True) @ V, []),  # as of slots
        (K.sum(-1).softmax(0).unsqueeze(2) @ V, [Astray(0, 2, (2, 3, 5), is_attention=False)]),
        ((V * K.sum(-1, keepdim=True).softmax(2)).sum(2), []),
    ],
)
def test_axes_are_followed_through_views(result, found):
    stack, nodes = [result.grad_fn], []
    while stack:
        nodes.append(stack.pop())
        stack += [before for before, _ in nodes[-1].next_functions if before is not None]
    assert [*dict.fromkeys(astray(nodes))] == found
