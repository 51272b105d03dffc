"""Whether a run that has just begun is worth going on with."""

from unvanish.gradients.judge.report import Report
from unvanish.gradients.judge.seen import STUCK as NOT_LEARNT

#: Steps after which a run is looked at.
MOMENTS = (10, 100)
#: Findings after which no number of further steps makes a network learn, whatever its loss is, and why.
LOST = {
    "nan": "what is NaN or infinite stays so",
    "weights that do not move": "the optimizer does not change the weights",
}
#: Findings that may heal while the loss falls, and why they do not where a hundred steps have left it at that of the
#: best constant prediction.
STUCK = {
    "vanishing": "the first layers get too little of the gradient to change what reaches the last one",
    "exploding": "the first layers change so much at each step that the later ones cannot learn from them",
    "dead": "constant units have a gradient of 0, and stay constant",
    "saturated": "where an activation is saturated its derivative is almost 0, so it stays saturated",
    "diverging": "steps of this size increase the loss, and the step size stays the same",
    "steps too large": "steps of this size overshoot, and the step size stays the same",
}
#: A share of the last layer's gradient that no learning rate brings back, nor Adam's division, whose eps is 1e-8: where
#: that gradient is about 1e-2 a weight, this share of it is no more than eps.
_GONE = 1e-6


def hopeless(report: Report) -> str:
    """Why waiting does not make a network learn, as far as the steps so far show it; empty where it may.

    Args:
        report: Of ten steps or more.
    """
    found = {finding.name: finding.evidence for finding in report.end.findings}
    for name, why in LOST.items():
        if name in found:
            return f"{name}: {found[name]}; {why}"
    is_lost = report.end.first_over_last < _GONE and report.progress(MOMENTS[0]) < NOT_LEARNT
    if "vanishing" in found and is_lost:
        return (
            f"vanishing: {found['vanishing']}; neither a learning rate nor Adam can make up for that, as Adam's eps is "
            "1e-8, and the loss is not below that of the best constant prediction"
        )
    if report.steps >= MOMENTS[-1] and "no better than a constant" in found:
        for name, why in STUCK.items():
            if name in found:
                return f"{name}: {found[name]}, and {found['no better than a constant']}; {why}"
    return ""
