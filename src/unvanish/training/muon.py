"""Muon for the hidden matrices it is meant for, AdamW for everything else, as one optimizer."""

import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

#: Of the polynomial a x + b x^3 + c x^5 that takes singular values from 0 to 1 near 1 (Jordan et al. 2024).
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)


@final
class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on the first parameter group, AdamW on the others.

    Muon orthogonalises the update of a matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon); the
    kernels of a convolution are one, with a row for each channel of its output. Its step is scaled to the RMS of
    AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate serves both.

    Args:
        params: Parameter groups, each with its ``weight_decay``; the first holds matrices and kernels only.
        lr: eta of both.
        momentum: Muon's mu.
        nesterov: Whether Muon's momentum looks ahead.
        ns_steps: Newton-Schulz iterations an update.
        betas: AdamW's beta1 and beta2.
        eps: AdamW's epsilon.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        muon = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps}
        self.adamw = torch.optim.AdamW(params[1:], lr, betas=betas, eps=eps)
        super().__init__([muon | params[0], *self.adamw.param_groups], {})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "adamw": self.adamw}

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both; ``closure`` is evaluated once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_of_muon()
        # Groups and state are handed over at each step because loading a checkpoint replaces them.
        self.adamw.param_groups, self.adamw.state = self.param_groups[1:], self.state
        self.adamw.step()
        return loss

    @torch.no_grad()
    def _step_of_muon(self) -> None:
        group = self.param_groups[0]
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state, gradient = self.state[weight], weight.grad.flatten(1)
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            mean = state["momentum_buffer"]
            mean.lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean
            scale = 0.2 * math.sqrt(max(ahead.shape))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(orthogonalized(ahead, group["ns_steps"]).view_as(weight), alpha=-group["lr"] * scale)


def orthogonalized(matrix: Tensor, steps: int) -> Tensor:
    """About U V^T of a matrix U S V^T: so many Newton-Schulz iterations in bfloat16 take S near 1."""
    a, b, c = _POLYNOMIAL
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    if is_tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The trainable matrices and kernels of convolutions, but for embeddings and the last linear layer, the output.

    Convolutions in groups are left out: their kernels are many small matrices.
    """
    others = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    others |= {id(m.weight) for m in [m for m in module.modules() if isinstance(m, nn.Linear)][-1:]}
    convolutions = (m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d) and m.groups == 1)
    kernels = {id(m.weight) for m in convolutions}
    candidates = (p for p in module.parameters() if p.dim() == 2 or id(p) in kernels)
    return [p for p in candidates if p.requires_grad and id(p) not in others]
