"""What all adapters share: a recorder, the report of its run, and where both are written."""

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, final

from unvanish.gradients.judge import Report
from unvanish.gradients.judge.report import summary
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.show.sinks import Sink

log = logging.getLogger("unvanish.gradients")


_P = ParamSpec("_P")


def _never_ends_a_training(
    see: Callable[Concatenate["Session", _P], None],
) -> Callable[Concatenate["Session", _P], None]:
    """What goes wrong in it is said once, and nothing is recorded any more."""

    @wraps(see)
    def guarded(self: "Session", *arguments: _P.args, **keywords: _P.kwargs) -> None:
        if self.is_over:
            return
        try:
            see(self, *arguments, **keywords)
        except Exception as error:  # of whatever kind: the training is not ours
            self.is_over = True
            self.recorder.__exit__(None, None, None)
            log.warning("gradients are not recorded any more: %s: %s", type(error).__name__, error)
            log.debug("this is where", exc_info=True)

    return guarded  # type: ignore[return-value]  # which mypy takes for keyword-only


@final
class Session:
    """The recorder of one training, from its first step to its last.

    Args:
        recorder: Watches from now on.
        report: Takes in what it gives.
        sinks: Take it in as well; none on ranks other than the first.
        folder: Where the report is kept; None keeps it nowhere.
        flush_every_n_steps: Steps whose values stay on the device before they are written.
        say: Prints a verdict.
        is_skipped: Whether a step was skipped on purpose, as those are whose scaled gradients overflow.
    """

    def __init__(
        self,
        recorder: GradientRecorder,
        report: Report,
        *,
        sinks: Sequence[Sink] = (),
        folder: Path | None = None,
        flush_every_n_steps: int = 100,
        say: Callable[[str], Any] = print,
        is_skipped: Callable[[Record], bool] = lambda _: False,
    ) -> None:
        self.recorder, self.report, self.sinks, self.folder = recorder, report, list(sinks), folder
        self.flush_every_n_steps = flush_every_n_steps
        self._say, self._is_skipped = say, is_skipped
        self._next_verdict = report.window
        self._warned: set[str] = set()
        self.is_over = False
        recorder.__enter__()

    @_never_ends_a_training
    def run(self, use: Callable[[GradientRecorder], None]) -> None:
        """Have something done with the recorder."""
        use(self.recorder)

    @_never_ends_a_training
    def after_step(self) -> None:
        """Write what has been recorded, now and then, and judge the first steps as soon as there are enough."""
        missing = self.report.window - self.report.steps
        due = self.flush_every_n_steps if missing <= 0 else min(missing, self.flush_every_n_steps)
        if self.recorder.pending_steps < due:
            return
        self._flush()
        if self.report.steps >= self._next_verdict:
            # Four times as many steps from one to the next are enough for 2.6 million, with ten verdicts.
            self._next_verdict = 4 * self.report.steps
            self._tell(aloud=missing > 0)

    @_never_ends_a_training
    def close(self, *, is_done: bool) -> None:
        """Write the rest and the report.

        Args:
            is_done: Whether the training has come to its end; of one that has died the gradients are asked for first.
        """
        self._flush()
        self.recorder.__exit__(None, None, None)
        self.is_over = True
        if not self.report.steps:
            return
        if is_done:
            self._tell(aloud=True)
        for sink in self.sinks:
            sink.close(self.report)
        if self.folder is not None:
            self.report.save(self.folder / "gradient_report.json")
            if self.report.has_deltas:
                from unvanish.gradients.show.pictures import picture_of  # noqa: PLC0415 - matplotlib takes its time

                (self.folder / "gradient_report.png").write_bytes(picture_of(self.report))

    def _flush(self) -> None:
        records = self.recorder.flush()
        self.report.notes = self.recorder.notes
        for note in self.report.notes:
            if note not in self._warned:
                self._warned.add(note)
                log.warning("%s", note)
        for record in records:
            if not self._is_skipped(record):
                self.report.add([record])
            found = summary(record, self.report) if self.sinks else {}
            for sink in self.sinks:
                sink.write(record, found)

    def _tell(self, *, aloud: bool) -> None:
        if not self.report.steps:
            return
        if aloud:
            self._say(f"gradients after {self.report.steps} steps: {self.report.end}")
        for sink in self.sinks:
            sink.tell(self.report)
