"""How far the copies of a layer's weights that the ranks hold are apart."""

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
