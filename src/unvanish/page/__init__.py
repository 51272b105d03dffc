"""The page that shows runs: TensorBoard's tab and report.html are made of it. Knows nothing of ours, nor of torch."""

from unvanish.page.document import REPORT, framed, html, read, write
from unvanish.page.matrix import Packed, packed
from unvanish.page.quantities import QUANTITIES, Shown, shown

__all__ = ["QUANTITIES", "REPORT", "Packed", "Shown", "framed", "html", "packed", "read", "shown", "write"]
