import pytest
import torch
from lightning import Trainer
from torch import nn

from unvanish.data import BatchLoader
from unvanish.training import ReferenceModule, Training


class Affine(ReferenceModule):
    """z = W x + b, every parameter a ramp from -1 to 1."""

    def __init__(self, inputs, outputs, training=Training()):
        super().__init__(training)
        self.linear = nn.Linear(inputs, outputs)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))

    def forward(self, x):
        logits = self.linear(x)
        return logits.squeeze(-1) if self.settings.task == "binary" else logits


@pytest.fixture
def affine():
    return lambda inputs, outputs, **training: Affine(inputs, outputs, Training(**training))


@pytest.fixture
def trainer():
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lambda **options: Trainer(**quiet | {"enable_checkpointing": False, "max_epochs": 1} | options)


@pytest.fixture
def fit(trainer):
    """Train without validation on batches of consecutive samples, and return the trainer."""

    def train(model, x, y, batch_size=100, resume=None, **options):
        loader, run = BatchLoader((x, y), batch_size), trainer(limit_val_batches=0, **options)
        run.fit(model, loader, loader, ckpt_path=resume, weights_only=True)
        return run

    return train
