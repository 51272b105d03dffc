"""The recorder as a callback of Hugging Face's Trainer."""

import logging
import weakref
from pathlib import Path
from typing import Any, final

import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.gradients.adapters.session import Session
from unvanish.gradients.judge import Report
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.show.sinks import JsonLines, Sink

log = logging.getLogger("unvanish.gradients")

_CLIPPED = (
    "dL/dW was read after Hugging Face's Trainer had clipped it to max_grad_norm = {}: the norm before is grad_norm in "
    "that Trainer's own log, and delta is not clipped; max_grad_norm = 0 clips nothing"
)


@final
class GradientCallback(TrainerCallback):  # type: ignore[misc]
    """Shows where the gradients of a training go: ``Trainer(callbacks=[GradientCallback()])``.

    After ten steps, and at the end, the verdict is printed; ``gradients.jsonl`` in the output folder has each step, and
    ``gradient_report.json`` and ``.png`` keep the report. That Trainer calls back only when it has clipped the
    gradients, so dL/dW is what the optimizer sees, which the report says; delta is that of the backward pass. It never
    ends or changes a training. Of one that has died the report is written when the next begins, at ``close``, or when
    the callback is given up, at the latest as the process ends.

    Args:
        every_n_steps: Steps between two at which everything is measured; at the others only the norms of weight
            gradients are.
        sinks: Where else to write; any object with the methods of ``Sink``, such as ``Metrics(logger)``.
    """

    def __init__(self, every_n_steps: PositiveInt = 20, sinks: list[Sink] | None = None) -> None:
        check_bounds(GradientCallback, locals())
        self.every_n_steps = every_n_steps
        self.sinks = sinks or []
        self.report = Report()
        self.session: Session | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        optimizer: Optimizer,
        **_: Any,
    ) -> None:
        """Watch the layers."""
        self.close()
        self.report, folder, is_first = Report(), Path(args.output_dir), state.is_world_process_zero
        # A training that goes on from a checkpoint goes on with its file.
        file = JsonLines(folder / "gradients.jsonl", append=state.global_step > 0)
        scaler = _scaler(optimizer)
        try:
            self.session = Session(
                GradientRecorder(
                    model,
                    self.every_n_steps,
                    first_steps=self.report.window,
                    process_group=dist.group.WORLD if dist.is_initialized() else None,
                ),
                self.report,
                sinks=[file, *self.sinks] if is_first else [],
                folder=folder if is_first else None,
                say=print if is_first else lambda _: None,
                is_skipped=lambda record: scaler is not None and not record.is_finite,
                notes=[_CLIPPED.format(args.max_grad_norm)] if args.max_grad_norm else [],
            )
        except Exception as error:  # of whatever kind: the training is not ours
            log.warning("gradients are not recorded: %s", error)
            return
        # That Trainer does not call back when a training dies.
        self._last_will = weakref.finalize(self, self.session.close, is_done=False)
        self.session.run(lambda recorder: recorder.optimizes(optimizer))

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Optimizer,
        **_: Any,
    ) -> None:
        """Read the gradients."""
        if self.session is not None:
            scaler = _scaler(optimizer)
            self.session.run(
                lambda recorder: recorder.before_step(
                    state.global_step,
                    (p for group in optimizer.param_groups for p in group["params"]),
                    loss_scale=1.0 if scaler is None else scaler._scale,
                )
            )

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Optimizer,
        **_: Any,
    ) -> None:
        """Read the update."""
        inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate puts one around it
        if self.session is not None:
            self.session.run(lambda recorder: recorder.after_step(inner))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write what has been recorded, now and then."""
        if self.session is not None:
            self.session.after_step()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **words: Any) -> None:
        """Take in the loss on data that are not learnt from."""
        loss = (words.get("metrics") or {}).get("eval_loss")
        if self.session is not None and loss is not None:
            self.report.validated(float(loss))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the rest and the report."""
        self.close(is_done=True)

    def close(self, *, is_done: bool = False) -> None:
        """Write the rest and the report of a training, also of one that has died, and let go of its model."""
        if self.session is not None:
            self._last_will.detach()
            self.session.close(is_done=is_done)
            self.session = None


def _scaler(optimizer: Optimizer) -> Any:
    return getattr(optimizer, "scaler", None)
