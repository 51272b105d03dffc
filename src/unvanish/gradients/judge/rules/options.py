"""Options of an optimizer that no training gets along with."""

import math
from collections.abc import Iterator
from statistics import median

from unvanish.gradients.judge.finding import Finding, Rule
from unvanish.gradients.judge.seen import USUAL, Seen
from unvanish.gradients.quantities.adam import ADAM_RMS
from unvanish.gradients.quantities.update import UPDATE_RATIO

#: The largest eps that frameworks have by default.
DEFAULT = 1e-7


def _momentum(rule: Rule, seen: Seen) -> Iterator[Finding]:
    if seen.learns:
        return
    for options in seen.options:
        momentum, betas = options.get("momentum", 0.0), options.get("betas", (0.0,))
        slow = max(momentum, betas[0])
        if momentum >= 1:
            yield rule.found(f"a momentum of {momentum:g} never forgets a step, so their sum grows without bound")
        elif len(betas) == 2 and betas[0] ** 2 >= math.sqrt(betas[1]):
            yield rule.found(
                f"betas of {betas[0]:g} and {betas[1]:g} average the gradient over more steps than its square",
                remedies=("betas of 0.9 and 0.999",),
            )
        elif slow < 1 and seen.is_stuck and 1 / (1 - slow) > seen.steps:
            evidence = f"a momentum of {slow:g} averages over {1 / (1 - slow):.0f} steps"
            yield rule.found(f"{evidence}, and the run has had only {seen.steps}")


def _eps(rule: Rule, seen: Seen) -> Iterator[Finding]:
    eps = max((options["eps"] for options in seen.options if "betas" in options and "eps" in options), default=0.0)
    sizes = {name: size for name, size in seen.medians(ADAM_RMS).items() if size > 0}
    small = [name for name, size in sizes.items() if size < eps]
    ratios = [ratio for ratio in seen.medians(UPDATE_RATIO).values() if math.isfinite(ratio)]
    if eps <= DEFAULT and len(small) < len(sizes):
        return  # gradients that are that small have vanished
    if 2 * len(small) <= len(sizes) or not ratios or median(ratios) > USUAL / 10 or seen.learns or seen.is_early:
        return
    largest = max(sizes[name] for name in small)
    yield rule.found(
        f"an eps of {eps:.1g} is larger than sqrt(v_hat) in {len(small)} of {len(sizes)} layers, {largest:.1g} at most",
        small,
    )


MOMENTUM = Rule(
    name="momentum out of range",
    about=("optimizer", "learning_rate"),
    cause="each step is dominated by gradients from long ago.",
    remedies=("a momentum of 0.9",),
    look=_momentum,
    source="momentum < 1 (Polyak 1964); beta1^2 < sqrt(beta2) (Kingma and Ba 2015, theorem 4.1)",
    near="Adam with betas of 0.9 and 0.999, or 0.5 and 0.999, as is usual for adversaries",
)
EPS = Rule(
    name="eps larger than the gradients",
    about=("optimizer", "numbers"),
    cause="Adam then divides by eps and not by the size of the gradients, so small gradients make small steps.",
    remedies=("an eps of 1e-8", "a loss that is scaled up by a factor", "float32 gradients"),
    look=_eps,
    source="the step is m_hat / (sqrt(v_hat) + eps); Kingma and Ba 2015, section 2",
    near="a network that has learnt its data: its gradients are rightly small",
)
