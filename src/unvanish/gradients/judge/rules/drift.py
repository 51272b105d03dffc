"""Ranks that hold copies of the weights, and no longer the same."""

from collections.abc import Iterator

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.quantities.drift import DRIFT

#: Copies that get the same gradients are equal bit by bit; norms are summed in the same order.
EQUAL = 1e-9


def _look(rule: Rule, seen: Seen) -> Iterator[Finding]:
    known = seen.latest.of(DRIFT) if seen.latest else {}
    drift = {name: share for name, share in known.items() if share > EQUAL}
    if drift:
        worst = max(drift, key=lambda name: drift[name])
        evidence = f"the norms of the weights differ by {100 * drift[worst]:.1g} % from rank to rank in {worst}"
        yield rule.found(f"{evidence}, and in {len(drift)} of {len(known)} layers at all", drift)


RANKS_APART = Rule(
    name="ranks that have drifted apart",
    about=("optimizer", "layers"),
    cause="each rank now trains a different network, and the averaged gradient is right for none of them.",
    remedies=("DistributedDataParallel around the network", "the same initial weights on all ranks", "the same steps"),
    look=_look,
    source="copies that begin equal and get equal gradients stay equal",
    near="ranks that see different data, as they should",
)
