"""Muon for the hidden matrices it is meant for, AdamW for everything else, as one optimizer."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn


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
        matrices = [_as_matrix(weight, weight) for weight in params[0]["params"]]
        self.muon = torch.optim.Muon(
            [params[0] | {"params": matrices}],
            lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = torch.optim.AdamW(params[1:], lr, betas=betas, eps=eps)
        (group,) = self.muon.param_groups
        super().__init__([group | {"params": params[0]["params"]}, *self.adamw.param_groups], {})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "muon": self.muon, "adamw": self.adamw}

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
        """Give torch's Muon, which takes matrices alone, one for each weight, and write it back to the weight."""
        weights = [weight for weight in self.param_groups[0]["params"] if weight.grad is not None]
        pairs = [(weight, _as_matrix(weight, weight.grad)) for weight in weights]
        self.muon.param_groups = [self.param_groups[0] | {"params": [matrix for _, matrix in pairs]}]
        self.muon.state = defaultdict(dict, {matrix: self.state[weight] for weight, matrix in pairs})
        self.muon.step()  # type: ignore[no-untyped-call]
        for weight, matrix in pairs:
            weight.copy_(matrix.view_as(weight))
        self.muon.param_groups[0]["params"] = []  # they would keep the gradients
        self.muon.state.clear()


def _as_matrix(weight: Tensor, gradient: Tensor) -> nn.Parameter:
    """A row for each output of a weight, with its gradient likewise."""
    matrix = nn.Parameter(weight.detach().flatten(1))
    matrix.grad = gradient.detach().flatten(1)
    return matrix


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
