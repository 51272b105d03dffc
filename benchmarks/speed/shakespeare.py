"""Tiny Shakespeare: speed/shakespeare, beside nanoGPT's setting for a CPU in a plain loop."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.speed.row import Row
from benchmarks.speed.trained import trained
from unvanish import Training, Transformer

BATCH, CONTEXT, STEPS, WARM, STEPS_OF_RUN = 12, 64, 100, 5, 2000
EVERY, EVALUATED = 250, 40  # it evaluates 20 batches of either split
ROUNDS = 3


def nanogpt(root: Path) -> float:
    """Seconds of the run, from its first steps: 4 layers, 4 heads, 128 wide, AdamW, the rate set at each step."""
    text = (root / "tinyshakespeare.txt").read_text(encoding="utf-8")
    letters = {letter: index for index, letter in enumerate(sorted(set(text)))}
    tokens = torch.tensor([letters[letter] for letter in text])
    model = Transformer((CONTEXT,), 65, vocabulary_size=65, tie_weights=True, training=Training(task="next_token"))
    weights = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))

    def loss() -> torch.Tensor:
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        x = torch.stack([tokens[i : i + CONTEXT] for i in starts])
        y = torch.stack([tokens[i + 1 : i + 1 + CONTEXT] for i in starts])
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    def step(index: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (index + 1) / 100
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def seconds_of(work, count: int) -> float:
        start = time.perf_counter()
        for index in range(count):
            work(index)
        return (time.perf_counter() - start) / count

    @torch.no_grad()
    def evaluate(index: int) -> None:
        loss()

    seconds_of(step, WARM)
    evaluations = EVALUATED * STEPS_OF_RUN / EVERY
    return seconds_of(step, STEPS) * STEPS_OF_RUN + seconds_of(evaluate, 10) * evaluations


def run(root: Path, variant: str, seed: int) -> dict[str, float]:
    """A variant of the comparison, validated at its end."""
    words = ("-c", "speed/shakespeare", "--variant", variant, f"--seed={seed}")
    return trained(*words, f"--data.path={root / 'tinyshakespeare.txt'}")


def rows(root: Path) -> Iterator[Row]:
    """To 1.88 beside nanoGPT's run, in turns; and to 1.70."""
    ours, theirs = [], []
    for seed in range(ROUNDS):
        ours.append(run(root, "three_layers", seed))
        theirs.append(nanogpt(root))
    losses = ", ".join(f"{one['val/loss']:.3f}" for one in ours)
    note = f"val/loss {losses}; nanoGPT's is said to be 1.88, its time is scaled from {STEPS} of {STEPS_OF_RUN} steps"
    times = tuple(one["seconds"] for one in ours)
    yield Row("tiny Shakespeare to 1.88, three_layers", "nanoGPT's CPU setting", times, tuple(theirs), "s", 0.4, note)
    long = run(root, "long", 0)
    yield Row(
        "tiny Shakespeare to 1.70, long", "", (long["seconds"],), (), "s", 120.0, f"val/loss {long['val/loss']:.3f}"
    )
