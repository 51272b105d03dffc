"""What all adapters share: a recorder, the report of its run, and where both are written."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from unvanish import page
from unvanish.gradients.adapters import recorder_state
from unvanish.gradients.judge import Report, report_state
from unvanish.gradients.judge.report import summary
from unvanish.gradients.record import Record
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.show.runs import run_of
from unvanish.gradients.show.sinks import Sink

log = logging.getLogger("unvanish.gradients")


@final
class Session:
    """The recorder of one training, from its first step to its last. No error in it ends that training.

    An error in the recorder is said once, and nothing is recorded any more; what was recorded before is kept. An error
    in a sink is said once, and that sink gets nothing any more.

    Args:
        recorder: Watches from now on.
        report: Takes in what it gives.
        sinks: Take it in as well; none on ranks other than the first.
        folder: Where the report is kept; None keeps it nowhere.
        flush_every_n_steps: Steps whose values stay on the device before they are written.
        say: Prints a verdict.
        is_skipped: Whether a step was skipped on purpose, as those are whose scaled gradients overflow.
        notes: What the reader of the numbers must know, beside what the recorder has to say.
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
        notes: Sequence[str] = (),
    ) -> None:
        self.recorder, self.report, self.sinks, self.folder = recorder, report, list(sinks), folder
        self.flush_every_n_steps = flush_every_n_steps
        self._say, self._is_skipped = say, is_skipped
        self._notes = list(notes)
        self._next_verdict = report.window
        self._warned: set[str] = set()
        self.is_over = self._is_closed = False
        recorder.__enter__()

    def run(self, use: Callable[[GradientRecorder], Any]) -> None:
        """Have something done with the recorder."""
        if self.is_over:
            return
        try:
            use(self.recorder)
        except Exception as error:  # of whatever kind: the training is not ours
            self.is_over = True
            why = f"{type(error).__name__}: {error}"
            log.warning("gradients are not recorded any more: %s", why)
            log.debug("this is where", exc_info=True)
            self._notes.append(f"nothing was recorded after step {self.report.last_step}: {why}")
            self.report.notes = [*self.report.notes, self._notes[-1]]
            with suppress(Exception):
                self.recorder.__exit__(None, None, None)

    def after_step(self) -> None:
        """Write what has been recorded, now and then, and judge the first steps as soon as there are enough."""
        self.run(self._after_step)

    def _after_step(self, recorder: GradientRecorder) -> None:
        missing = self.report.window - self.report.steps
        due = self.flush_every_n_steps if missing <= 0 else min(missing, self.flush_every_n_steps)
        if recorder.pending_steps >= due:
            self._flush(recorder)

    def after_epoch(self) -> None:
        """Write what has been recorded: an epoch is short, or its end is worth the wait for the device."""
        self.run(self._flush)

    def close(self, *, is_done: bool, has_run: bool = False) -> None:
        """Write the rest and the report; the second time, nothing.

        Args:
            has_run: Whether there were batches since the last step.
            is_done: Whether the training has come to its end; of one that has died the gradients are asked for first.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self.run(self._flush)
        self.run(lambda recorder: recorder.__exit__(None, None, None))
        self.is_over = True
        if not self.report.steps:
            if is_done and has_run:
                self._say("gradients: no optimizer has made a step, so no weight has moved. Try optimizer.step().")
            return
        try:
            if is_done:
                self._tell(aloud=True)
            self._to_sinks(lambda sink: sink.close(self.report))
            if self.folder is not None:
                self._save(self.folder)
        except Exception as error:  # of whatever kind: the training is not ours
            self.report.failure = error if isinstance(error, OSError) else None
            log.warning("the report on the gradients is not complete: %s: %s", type(error).__name__, error)

    def _save(self, folder: Path) -> None:
        self.report.save(folder / "gradient_report.json")
        name = f"{folder.absolute().parent.name}/{folder.name}"
        page.write(folder / page.REPORT, [run_of(self.report, name)], name)
        if self.report.has_deltas:
            from unvanish.gradients.show.pictures import picture_of  # noqa: PLC0415 - brings Pillow

            (folder / "gradient_report.png").write_bytes(picture_of(self.report))

    def is_finite(self) -> bool | None:
        """Whether the gradients of the step that was read last are; None where they are on a device, or none was."""
        return None if self.is_over else recorder_state.is_finite(self.recorder)

    def state(self, before: int, keys: Sequence[frozenset[int] | None]) -> dict[str, Any]:
        """What a checkpoint holds, so that the report is on the whole run; what was recorded is written.

        Args:
            before: The step that is the next; one that has begun it without an end is not in the state.
            keys: The parameters of each optimizer, as the recorder was told of them.
        """
        found: dict[str, Any] = {}

        def take(recorder: GradientRecorder) -> None:
            records = recorder.flush()
            self._take(recorder, [record for record in records if record.step < before])
            found.update(
                report=report_state.dump(self.report),
                recorder=recorder_state.dump(recorder, keys),
                next_verdict=self._next_verdict,
                notes=list(self._notes),
            )
            self._take(recorder, [record for record in records if record.step >= before])

        self.run(take)
        return found

    def restore(self, state: dict[str, Any], keys: Sequence[frozenset[int] | None]) -> None:
        """Go on where a checkpoint was written; the report is restored by whoever has made it."""
        self._next_verdict = state["next_verdict"]
        self._notes += [note for note in state["notes"] if note not in self._notes]
        self._warned.update(self.report.notes)
        self.run(lambda recorder: recorder_state.load(recorder, state["recorder"], keys))

    def _flush(self, recorder: GradientRecorder) -> None:
        self._take(recorder, recorder.flush())

    def _take(self, recorder: GradientRecorder, records: Sequence[Record]) -> None:
        self.report.notes = [*self._notes, *recorder.notes]
        for note in self.report.notes:
            if note not in self._warned:
                self._warned.add(note)
                log.warning("%s", note)
        for record in records:
            if self._is_skipped(record):
                self.report.skipped += 1
            else:
                self.report.add([record])
            if self.sinks:
                found = summary(record, self.report)
                self._to_sinks(lambda sink, record=record, found=found: sink.write(record, found))  # type: ignore[misc]
            if self.report.steps >= self._next_verdict:
                # By the steps alone, not by when they are written: a finding is dated by the verdict that is the first
                # to have it. Four times as many from one to the next are ten verdicts in 2.6 million.
                self._next_verdict = 4 * self.report.steps
                self._tell(aloud=self.report.steps == self.report.window)

    def _tell(self, *, aloud: bool) -> None:
        if not self.report.steps:
            return
        if aloud:
            self._say(f"gradients after {self.report.steps} steps: {self.report.end}")
        self._to_sinks(lambda sink: sink.tell(self.report))

    def _to_sinks(self, give: Callable[[Sink], None]) -> None:
        for sink in [*self.sinks]:
            try:
                give(sink)
            except Exception as error:  # of whatever kind: the others go on, and so does the training
                self.sinks.remove(sink)
                name, kind = type(getattr(sink, "logger", sink)).__name__, type(error).__name__
                log.warning("%s gets no gradients any more: %s: %s", name, kind, error)
