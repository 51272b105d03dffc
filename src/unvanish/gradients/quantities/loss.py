"""The loss of a step."""

from unvanish.gradients.quantities.quantity import Field, Total

VALUE = Field()

LOSS = Total("loss", lambda columns, _: columns[VALUE][""] if VALUE in columns else None)
