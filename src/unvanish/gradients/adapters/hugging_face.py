"""The recorder as a callback of Hugging Face's Trainer."""

from pathlib import Path
from typing import Any, final

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unvanish.gradients.adapters.session import Session
from unvanish.gradients.judge import Report
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.show.sinks import JsonLines, Sink


@final
class GradientCallback(TrainerCallback):  # type: ignore[misc]
    """Shows where the gradients of a training go: ``Trainer(callbacks=[GradientCallback()])``.

    After ten steps, and at the end, the verdict is printed; ``gradients.jsonl`` in the output folder has each step, and
    ``gradient_report.json`` and ``.png`` keep the report. That Trainer calls back when it has clipped the gradients, so
    dL/dW is what the optimizer sees; delta is that of the backward pass.

    Args:
        every_n_steps: Steps between two at which everything is measured.
        sinks: Where else to write; any object with the methods of ``Sink``.
    """

    def __init__(self, every_n_steps: int = 20, sinks: list[Sink] | None = None) -> None:
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
        self.report, folder = Report(), Path(args.output_dir)
        recorder = GradientRecorder(model, self.every_n_steps, first_steps=self.report.window)
        sinks = [JsonLines(folder / "gradients.jsonl"), *self.sinks] if state.is_world_process_zero else []
        self.session = Session(
            recorder, self.report, sinks=sinks, folder=folder if state.is_world_process_zero else None
        )
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
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.session is not None:
            self.session.run(lambda recorder: recorder.before_step(state.global_step, parameters))

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

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the rest and the report."""
        if self.session is not None:
            self.session.close(is_done=True)
