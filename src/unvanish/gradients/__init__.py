"""Measures gradients where a network really trains, and says what they do. Works on any ``nn.Module``."""

from unvanish.gradients.diagnosis import Diagnosis, diagnose
from unvanish.gradients.monitor import GradientMonitor
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.report import Report
from unvanish.gradients.verdict import Verdict, judge

__all__ = ["Diagnosis", "GradientMonitor", "GradientRecorder", "Record", "Report", "Verdict", "diagnose", "judge"]
