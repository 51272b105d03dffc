"""Says what the numbers mean: the verdict, the report of a run, the diagnosis before one."""

from unvanish.gradients.judge.diagnosis import Diagnosis, diagnose
from unvanish.gradients.judge.finding import Finding
from unvanish.gradients.judge.report import Report
from unvanish.gradients.judge.seen import Seen
from unvanish.gradients.judge.verdict import Verdict, judge

__all__ = ["Diagnosis", "Finding", "Report", "Seen", "Verdict", "diagnose", "judge"]
