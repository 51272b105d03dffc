"""How far the ranks' copies of a layer's weights have drifted apart."""

from unvanish.gradients.quantities.quantity import Field, Quantity, Weights

SPREAD = Field()

DRIFT = Quantity(
    name="rank_drift",
    title="spread of the norm of W over the ranks, as a share of it",
    unit="",
    moment=Weights,
    read=lambda moment: {SPREAD: part} if (part := moment.whole.spread(moment.names, moment.weights)) else {},
    fields=(SPREAD,),
    value=lambda numbers: numbers[SPREAD],
    charted=False,
)
