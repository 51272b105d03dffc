import os

import lightning as L
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from unvanish.command.lean import Lean

ASKS = "PYTORCH_NVML_BASED_CUDA_CHECK"


class Idle(L.Callback):
    pass


class Counts(L.Callback):
    def __init__(self, idle):
        self.idle, self.batches, self.seen = idle, 0, None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += 1
        self.seen = self.idle.on_train_batch_end, pl_module.on_after_backward, os.environ.get(ASKS)


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_start(self, batch, batch_idx):
        self.batches += 1


def test_hooks_that_do_nothing_are_gone_while_a_run_trains_and_back_after_it(tmp_path):
    idle = Idle()
    counts, model, asked = Counts(idle), Model(), os.environ.get(ASKS)
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    limits = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 1, "default_root_dir": tmp_path}
    L.Trainer(callbacks=[Lean(), idle, counts], accelerator="cpu", **quiet, **limits).fit(model)
    assert (counts.batches, model.batches) == (3, 3)
    assert counts.seen == (None, None, asked if torch.cuda.device_count() else None)
    assert os.environ.get(ASKS) == asked
    assert idle.on_train_batch_end(None, None, None, None, 0) is None
    assert model.on_after_backward() is None
