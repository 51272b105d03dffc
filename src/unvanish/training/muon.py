"""Muon for the hidden matrices it is meant for, AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import nn


@final
class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on the first parameter group, AdamW on the others.

    Muon orthogonalises the update of a matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Its step
    is scaled to the RMS of AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate serves
    both.

    Args:
        params: Parameter groups, each with its ``weight_decay``; the first holds matrices only.
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
        self.muon = torch.optim.Muon(
            params[:1], lr, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = torch.optim.AdamW(params[1:], lr, betas=betas, eps=eps)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "muon": self.muon, "adamw": self.adamw}

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both; ``closure`` is evaluated once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Groups and state are handed over at each step because loading a checkpoint replaces them.
        for part, groups in ((self.muon, self.param_groups[:1]), (self.adamw, self.param_groups[1:])):
            part.param_groups, part.state = groups, self.state
            part.step()  # type: ignore[no-untyped-call]
        return loss


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The trainable matrices that are neither an embedding nor the weight of the last linear layer, the output."""
    others = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    others |= {id(m.weight) for m in [m for m in module.modules() if isinstance(m, nn.Linear)][-1:]}
    return [p for p in module.parameters() if p.requires_grad and p.dim() == 2 and id(p) not in others]
