"""The recorder as a Lightning callback."""

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import lightning as L
import torch.distributed as dist
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.optim import Optimizer

from unvanish.bounds import PositiveInt, check_bounds
from unvanish.gradients.adapters.session import Session
from unvanish.gradients.judge import Report, report_state
from unvanish.gradients.layers import first_tensor
from unvanish.gradients.recorder import GradientRecorder
from unvanish.gradients.show.events import EventWriter
from unvanish.gradients.show.sinks import Metrics, Sink
from unvanish.gradients.theory import ChainProbe

log = logging.getLogger("unvanish.gradients")


@final
class GradientMonitor(L.Callback):
    """Shows where the gradients of a training run go: ``Trainer(callbacks=[GradientMonitor()])``.

    It reads the backward passes of the run itself (see ``GradientRecorder``), before gradients are clipped and after.
    TensorBoard gets a curve for each layer and quantity, histograms, a chart with all layers, a heat map of delta by
    depth and step, and the verdict; other loggers get what sums each full step up. After ten steps, and at the end, the
    verdict is printed; ``gradient_report.json`` and ``.png`` beside the logs keep it, where there is a logger. What
    cannot be measured is said once. It never ends or changes a training: what goes wrong in it is said, and it stops.

    Args:
        every_n_steps: Steps between two at which everything is measured; at the others only the norms of weight
            gradients are.
        histogram_every_n_steps: Steps between two histograms; a multiple of ``every_n_steps``.
        flush_every_n_steps: Steps whose values stay on the device before they are written.
        verbose: Whether to print the verdicts.
        every_layer: Whether loggers other than TensorBoard's get the values of each layer as well.
        sinks: Where else to write, such as ``JsonLines(path)``.

    Raises:
        ValueError: an interval is below 1.
    """

    def __init__(
        self,
        every_n_steps: PositiveInt = 20,
        histogram_every_n_steps: PositiveInt = 100,
        flush_every_n_steps: PositiveInt = 100,
        verbose: bool = True,
        every_layer: bool = False,
        sinks: list[Any] | None = None,
    ) -> None:
        check_bounds(GradientMonitor, locals())
        self.every_n_steps = every_n_steps
        self.histogram_every_n_steps = histogram_every_n_steps
        self.flush_every_n_steps = flush_every_n_steps
        self.verbose = verbose
        self.every_layer = every_layer
        self.sinks = sinks or []
        self.report = Report()
        #: As of ``Report``.
        self.change_of: Callable[[str], Mapping[str, Any]] | None = None
        self.session: Session | None = None
        #: Whether steps with a gradient that is not finite are left out of the report, as they are skipped.
        self.leaves_out_non_finite = False
        self._resumed: dict[str, Any] = {}
        self._trainer: L.Trainer | None = None
        self._hooks = ExitStack()

    def __repr__(self) -> str:
        return f"GradientMonitor({self.report.steps} steps{', watching' if self.session else ''})"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the layers."""
        self.report, self.session, self._trainer = Report(), None, trainer
        self.report.change_of = self.change_of or self.report.change_of
        if not trainer.ckpt_path:  # what was loaded to be tested is not what this goes on from
            self._resumed = {}
        self._take_up_report()
        log_dir = trainer.log_dir  # which all ranks ask for, as it is broadcast
        try:
            recorder = GradientRecorder(
                pl_module,
                self.every_n_steps,
                first_steps=self.report.window,
                histogram_every_n_steps=self.histogram_every_n_steps,
                process_group=dist.group.WORLD if dist.is_initialized() else None,
            )
            loggers = [logger for logger in trainer.loggers if not isinstance(logger, DummyLogger)]
            self.session = Session(
                recorder,
                self.report,
                folder=Path(log_dir) if loggers and log_dir and trainer.is_global_zero else None,
                flush_every_n_steps=self.flush_every_n_steps,
                say=lambda verdict: pl_module.print(verdict) if self.verbose else None,
                is_skipped=lambda record: (
                    not record.is_finite and (self.leaves_out_non_finite or _scaler(trainer) is not None)
                ),
            )
        except Exception as error:  # of whatever kind: the training is not ours
            log.warning("gradients are not recorded: %s", error)
        self._probe: ChainProbe | None = None
        #: Samples of the micro-batches since the last step; where they differ, that step shows no noise scale.
        self._batch_sizes: set[int] = set()
        #: Without the scaler's factor, where there is one.
        self._loss: Tensor | None = None

    def _take_up_report(self) -> None:
        if not self.report.steps and "report" in self._resumed:
            report_state.load(self.report, self._resumed["report"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the optimizers and the clipping, and the first pass for what theory has to say."""
        if self.session is not None:
            self.session.run(lambda recorder: self._begin(trainer, pl_module, recorder))

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule, recorder: GradientRecorder) -> None:
        session, plugin = self.session, trainer.precision_plugin
        assert session is not None
        self._take_up_report()  # some strategies restore a checkpoint only after a fit has started
        recorder.optimizes(*trainer.optimizers)
        for optimizer in trainer.optimizers:
            handle = optimizer.register_step_post_hook(
                lambda optimizer, *_: session.run(lambda r: r.after_step(optimizer))
            )
            self._hooks.callback(handle.remove)
        # Lightning computes and clips the gradients within the optimizer's step, so that no hook on it comes between.
        clip = plugin._clip_gradients

        def clip_and_read(*arguments: Any, **keywords: Any) -> None:
            clip(*arguments, **keywords)
            session.run(GradientRecorder.after_clipping)

        plugin._clip_gradients = clip_and_read  # type: ignore[method-assign]
        self._hooks.callback(lambda: plugin.__dict__.pop("_clip_gradients", None))
        if not self.report.steps:
            self._probe = ChainProbe(pl_module)
            self._hooks.callback(self._probe.close)
        if self._resumed:
            session.restore(self._resumed, self._keys(trainer))
            self._resumed = {}
        self._open_sinks(trainer, session)

    def _open_sinks(self, trainer: L.Trainer, session: Session) -> None:
        steps = trainer.estimated_stepping_batches
        total = int(steps) if 0 < steps < math.inf else None
        if trainer.is_global_zero:
            session.sinks = [*(self._sink(logger, total) for logger in trainer.loggers), *self.sinks]

    def _sink(self, logger: Any, total: int | None) -> Sink:
        if isinstance(logger, TensorBoardLogger):
            return EventWriter(logger.experiment, total)
        return Metrics(logger, everything=self.every_layer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """See how many samples there are, for the gradient noise scale."""
        if self.session is not None:
            self.session.run(lambda _: self._count(batch))

    def _count(self, batch: Any) -> None:
        tensor = first_tensor(batch)
        if tensor is not None and tensor.dim():
            self._batch_sizes.add(tensor.size(0))  # of a nested tensor torch knows no length

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Read the graph of the loss, and what theory has to say of the first pass."""
        if self.session is not None:
            scaler = _scaler(trainer)
            self._loss = None if scaler is None else loss.detach() / scaler._scale
            self.session.run(lambda recorder: recorder.before_backward(loss))
            if self._probe is not None:
                self.session.run(self._take_chain)

    def _take_chain(self, _: GradientRecorder) -> None:
        if self._probe is not None:
            self.report.chain, self._probe = self._probe.chain(), None

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Read the gradients: accumulated, and not yet clipped."""
        if self.session is None:
            return
        scaler, sizes, self._batch_sizes = _scaler(trainer), self._batch_sizes, set()
        self.session.run(
            lambda recorder: recorder.before_step(
                trainer.global_step,
                (p for group in optimizer.param_groups for p in group["params"]),
                loss_scale=1.0 if scaler is None else scaler._scale,
                # Fused optimizers take the scale out themselves, later.
                unscaled=scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False),
                batch_size=sizes.pop() if len(sizes) == 1 else None,
                loss=self._loss,
            )
        )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what has been recorded, now and then."""
        if self.session is not None:
            self.session.after_step()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take in the loss on data that are not learnt from, where the module logs one: val/loss, val_loss or alike."""
        if self.session is not None and not trainer.sanity_checking:
            logged = trainer.callback_metrics.items()
            losses = [value for name, value in logged if "val" in name and name.endswith("loss")]
            if losses:
                self.report.validated(float(losses[0]))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the epoch has brought, for whoever looks at it then."""
        if self.session is not None:
            self.session.after_epoch()

    def gradients_are_finite(self) -> bool | None:
        """Whether those of the step that was read last are; None where none was, or they are on a device."""
        return None if self.session is None else self.session.is_finite()

    def state_dict(self) -> dict[str, Any]:
        """What the report has seen, and where the recorder is; empty where nothing is recorded."""
        if self.session is None or self._trainer is None:
            return {}
        return self.session.state(self._trainer.global_step, self._keys(self._trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it in the next training."""
        self._resumed = state_dict

    @staticmethod
    def _keys(trainer: L.Trainer) -> list[frozenset[int] | None]:
        return [
            frozenset(id(p) for group in optimizer.param_groups for p in group["params"])
            for optimizer in trainer.optimizers
        ]

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the rest and the report."""
        self._close(is_done=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Write what there is: a run that has died is the one whose gradients are asked for."""
        self._close(is_done=False)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the layers; where there was nothing left to train, the end of the report may still be."""
        is_over = bool(self._resumed)
        if self.session is not None and is_over:
            self._open_sinks(trainer, self.session)
        self._close(is_done=is_over)

    def _close(self, *, is_done: bool) -> None:
        if self.session is None:
            return
        self.session.run(self._take_chain)
        # The sizes of batches are taken at a step.
        self.session.close(is_done=is_done, has_run=bool(self._batch_sizes))
        self._hooks.close()
        self.session = None


def _scaler(trainer: L.Trainer) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)
