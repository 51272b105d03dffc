"""What each quantity is called on the page, and whether it is drawn on a logarithmic scale."""

from typing import NamedTuple


class Shown(NamedTuple):
    """How a quantity is shown.

    Args:
        title: In the menu, and on an axis.
        log: Whether log10 of it is drawn.
    """

    title: str
    log: bool


#: TensorBoard's name for the tab, and for what is written for it alone.
TAB = "gradients"
#: Under which it has all layers of a run that has too many for TensorBoard's own pages, block by block.
LAYERS = "gradient/layers"

#: In the order of the menu; what is not here is shown under its own name.
QUANTITIES = {
    "delta": Shown("gradient δ = ∂L/∂z (RMS)", True),
    "gradient_norm": Shown("weight gradient ∂L/∂W (norm)", True),
    "update_ratio": Shown("update ratio |ΔW| / |W|", True),
    "activation_mean": Shown("activation, mean", False),
    "activation_std": Shown("activation, standard deviation", True),
    "saturated_share": Shown("saturated share", False),
    "dead_share": Shown("dead share", False),
    "gradient_cosine": Shown("cosine of ∂L/∂W with the step before", False),
    "stream_norm": Shown("gradient of the residual stream (norm)", True),
}
#: Of dL/dh_t.
STATE = Shown("|∂L/∂h_t|", True)


def shown(name: str) -> Shown:
    """How a quantity is shown; one that is not in the table, by its own name on a linear scale."""
    return QUANTITIES.get(name) or Shown(name, False)
