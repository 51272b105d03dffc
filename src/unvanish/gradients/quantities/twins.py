"""How alike the units of a layer are at the start: units with the same weights learn the same.

Where there is one, it is like no other.
"""

import torch

from unvanish.gradients.quantities.quantity import Field, Initial, Part, Quantity

INCOMING, OUTGOING, COUNT = Field(), Field(), Field()


def _read(moment: Initial) -> dict[Field, object]:
    found = [(name, weight) for name, weight in zip(moment.names, moment.weights, strict=True) if weight.numel()]
    if not found:
        return {}
    names = [name for name, _ in found]
    rows = [(w == w[:1]).all().to(torch.float32) * (w.shape[0] > 1) for _, w in found]
    columns = [(w == w[:, :1]).all().to(torch.float32) * (w.shape[1] > 1) for _, w in found]
    return {
        INCOMING: Part(names, torch.stack(rows)),
        OUTGOING: Part(names, torch.stack(columns)),
        COUNT: Part(names, [1.0] * len(names)),
    }


TWIN_UNITS = Quantity(
    name="twin_units",
    title="weights whose units all begin alike, as a share",
    unit="",
    moment=Initial,
    read=_read,
    fields=(INCOMING, COUNT),
    value=lambda numbers: numbers[INCOMING] / numbers[COUNT],
    charted=False,
    form=".0%",
)
TWIN_INPUTS = Quantity(
    name="twin_inputs",
    title="weights that treat all inputs alike at the start, as a share",
    unit="",
    fields=(OUTGOING, COUNT),
    value=lambda numbers: numbers[OUTGOING] / numbers[COUNT],
    charted=False,
    form=".0%",
)
