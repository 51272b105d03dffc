"""The checkpoint of a run's best epoch."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from unvanish.training import Scores


@final
class Best(ModelCheckpoint):
    """Keeps the best epoch, and of equally good ones the latest: small validation splits cause many ties.

    An epoch whose validation loss is NaN or infinite is never the best. A resumed run still knows its best epoch from
    before the interruption, even if its folder has been moved.
    """

    def __init__(self, folder: Path, name: str, monitor: str, mode: str) -> None:
        super().__init__(folder, name, monitor, mode=mode, enable_version_counter=False)
        #: What the best epoch's network is worth on the validation split.
        self.scores: Scores | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Set up as Lightning does, without its warning that a resumed run's folder is not empty."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_batch_end(self, *_: Any) -> None:
        """Do nothing: the best epoch is determined at the end of each epoch, and Lightning would check every batch."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look for it where there was a validation: ``max_steps`` may end an epoch before, of which Lightning warns."""
        if self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether an epoch of this metric is kept."""
        loss = trainer.callback_metrics.get("val/loss")
        if current is None or not all(bool(value.isfinite()) for value in (current, loss) if value is not None):
            return False
        is_tie = bool(current == self.best_model_score)
        is_best = is_tie or super().check_monitor_top_k(trainer, current)
        if is_best:
            self.scores = getattr(trainer.lightning_module, "scores", None)
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """The state of Lightning's callback and the scores of the best epoch, for a resumed run."""
        return super().state_dict() | {"scores": asdict(self.scores) if self.scores else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch if its checkpoint lies in this run's folder, that is, if the run is resumed."""
        here = self.format_checkpoint_name({})
        score = state_dict["best_model_score"]
        if score is None or not Path(here).is_file():
            return
        found = {"best_model_path": here, "kth_best_model_path": here, "last_model_path": "", "dirpath": self.dirpath}
        super().load_state_dict(state_dict | found | {"best_k_models": {here: score}})
        if scores := state_dict.get("scores"):
            self.scores = Scores(**scores)
