"""What recording gradients costs: seconds a step beside the same loop bare, as ratios within one run.

Lightning's documented recipe, ``grad_norm`` with ``log_dict``, stands beside. Nothing here asserts a time.
"""

import logging
import tempfile
import time
import warnings
from statistics import median

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import grad_norm

from unvanish import MLP, GradientMonitor, GradientRecorder
from unvanish.data import BatchLoader

CLASSES, BATCH, STEPS, ROUNDS = 10, 64, 200, 5


class GradNorm(L.Callback):
    """The recipe of Lightning's documentation."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        pl_module.log_dict(grad_norm(pl_module, norm_type=2))


def network(width, layers):
    torch.manual_seed(0)
    return MLP((width,), CLASSES, width, layers)


def raw_loop(width, layers, record):
    model = network(width, layers)
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(BATCH, width), torch.randint(CLASSES, (BATCH,))
    recorder = GradientRecorder(model)
    if record:
        recorder.__enter__()
    start = time.perf_counter()
    for step in range(STEPS):
        optimizer.zero_grad()
        model.training_loss(model(x), y).backward()
        if record:
            recorder.before_step(step)
        optimizer.step()
        if record:
            recorder.after_step()
    recorder.flush()
    return (time.perf_counter() - start) / STEPS


def lightning_loop(width, layers, *callbacks):
    model = network(width, layers)
    loader = BatchLoader((torch.randn(BATCH * STEPS, width), torch.randint(CLASSES, (BATCH * STEPS,))), BATCH)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1,
            limit_val_batches=0,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        start = time.perf_counter()
        trainer.fit(model, loader)
        return (time.perf_counter() - start) / STEPS


def main():
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    print("milliseconds a step, and the ratio to the same loop bare; median of", ROUNDS, "rounds of", STEPS, "steps")
    for layers, width in ((3, 512), (20, 128), (50, 256)):
        loops = {
            "raw loop": lambda w=width, n=layers: raw_loop(w, n, record=False),
            "raw loop + GradientRecorder": lambda w=width, n=layers: raw_loop(w, n, record=True),
            "Trainer": lambda w=width, n=layers: lightning_loop(w, n),
            "Trainer + GradientMonitor()": lambda w=width, n=layers: lightning_loop(
                w, n, GradientMonitor(verbose=False)
            ),
            "Trainer + log_dict(grad_norm)": lambda w=width, n=layers: lightning_loop(w, n, GradNorm()),
        }
        # Round by round rather than loop by loop: a noisy neighbour then disturbs all of them alike.
        rounds = [{name: loop() for name, loop in loops.items()} for _ in range(ROUNDS)]
        print(f"\n{layers} layers of {width}")
        for name in loops:
            bare = "raw loop" if name.startswith("raw") else "Trainer"
            ratio = median(times[name] / times[bare] for times in rounds)
            print(f"  {name:30} {1000 * median(times[name] for times in rounds):7.2f} ms  x{ratio:.2f}")


if __name__ == "__main__":
    main()
