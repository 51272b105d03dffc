"""Measures gradients where a network really trains, and says what they do. Works on any ``nn.Module``."""

from unvanish.gradients.monitor import GradientMonitor
from unvanish.gradients.recorder import GradientRecorder, Record
from unvanish.gradients.report import Report
from unvanish.gradients.verdict import Verdict, judge

__all__ = ["GradientMonitor", "GradientRecorder", "Record", "Report", "Verdict", "judge"]
