"""Measures the gradients of any ``nn.Module`` while it trains, and diagnoses them.

Needs only torch and numpy. Adapters and sinks import their own libraries on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unvanish.gradients.judge import Diagnosis, Finding, Report, Seen, Verdict, diagnose, judge
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder

if TYPE_CHECKING:
    from unvanish.gradients.adapters.hugging_face import GradientCallback
    from unvanish.gradients.adapters.lightning import GradientMonitor
    from unvanish.gradients.show.sinks import JsonLines, Metrics, Sink

_LATER = {
    "GradientCallback": "adapters.hugging_face",
    "GradientMonitor": "adapters.lightning",
    "JsonLines": "show.sinks",
    "Metrics": "show.sinks",
    "Sink": "show.sinks",
}

__all__ = [
    "Diagnosis",
    "Finding",
    "GradientCallback",
    "GradientMonitor",
    "GradientRecorder",
    "JsonLines",
    "Metrics",
    "Record",
    "Report",
    "Seen",
    "Sink",
    "Verdict",
    "diagnose",
    "judge",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'unvanish.gradients' has no attribute {name!r}")
    return getattr(import_module(f"unvanish.gradients.{_LATER[name]}"), name)
