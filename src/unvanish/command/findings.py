"""All possible findings on one page: ``unvanish diagnose --list-findings``, and docs/FINDINGS.md."""

from unvanish.gradients.judge.rules import RULES

_HEAD = """\
# Findings

What `unvanish diagnose` and the gradient monitor may find, the gravest first. A finding names its layers and the
numbers that show it. Its threshold has a source, and a healthy case that comes near it and is not named. This page is
what `unvanish diagnose --list-findings` prints.

| finding | what it means | what to try | where its threshold comes from | a healthy case that comes near |
|---|---|---|---|---|
"""


def findings_page() -> str:
    """A Markdown table with one row for each rule."""
    rows = [(rule.name, rule.cause, "; ".join(rule.remedies), rule.source, rule.near) for rule in RULES]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in cells)
