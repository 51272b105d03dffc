"""``unvanish export``: writes a run's network in a format that other programs read, and verifies its outputs."""

import hashlib
import json
import logging
import warnings
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unvanish.command.card import Exported, model_card
from unvanish.command.checkpoints import load_checkpoint
from unvanish.command.errors import FailedError, WrongInputError, as_wrong_input, one_line
from unvanish.command.evaluate import load_trained, quiet_trainer
from unvanish.command.experiment import has_test_split
from unvanish.command.recipes import CONFIG
from unvanish.command.run_folder import write_text
from unvanish.command.trained import network_of
from unvanish.data import InMemoryData
from unvanish.data.file_rows import in_memory
from unvanish.training import ReferenceModule, Scores
from unvanish.training.module import DATA, NETWORK

CARD, ENCODING = "MODEL_CARD.md", "encoding.json"
_ROWS = 64
_BATCHES = (1, 2, _ROWS)  # that the exported network must take
_TOLERANCE = 1e-4  # of the largest answer


class _Format(NamedTuple):
    """An export format.

    Args:
        file: Name of the file.
        needs: Packages that must be installed.
        write: Writes the network; called with the network, an example batch and the path.
        read: Loads the file as a function from a batch to the outputs.
    """

    file: str
    needs: tuple[str, ...]
    write: Callable[["Answering", Tensor, Path], None]
    read: Callable[["Answering", Path], Callable[[Tensor], Tensor]]


class Answering(nn.Module):
    """A network that returns what ``predict`` does: probabilities, or numbers in their own units.

    Args:
        network: The trained network.
        data: The data module, with ``target_mean`` and ``target_std`` if the targets were standardised.
        checkpoint: The content of its checkpoint.
    """

    def __init__(self, network: ReferenceModule, data: Any, checkpoint: dict[str, Any]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.network, self.task, self.checkpoint = network, network.settings.task, checkpoint
        mean, std = getattr(data, "target_mean", None), getattr(data, "target_std", None)
        self.register_buffer("mean", torch.zeros(()) if mean is None else mean.clone())
        self.register_buffer("std", torch.ones(()) if std is None else std.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> probabilities (B,), (B, C) or (B, T, V), or numbers (B, D)."""
        logits: Tensor = self.network(x)
        if self.task == "regression":
            return logits * self.std + self.mean
        return logits.sigmoid() if self.task == "binary" else logits.softmax(dim=-1)


def export(options: Namespace, overrides: list[str]) -> int:
    """Write a run's network in the chosen format, with a model card.

    Raises:
        WrongInputError: the folder holds no run, or a package is missing.
        FailedError: the format cannot hold the network, or the file's outputs differ from the network's.
    """
    kind = _FORMATS[options.format]
    if absent := [name for name in kind.needs if find_spec(name) is None]:
        raise WrongInputError(
            f"--format {options.format} needs {', '.join(absent)}, not installed: pip install 'unvanish[export]'"
        )
    run = Path(options.run)
    run = run.parent if run.name == CONFIG else run
    if not (run / CONFIG).is_file():
        raise WrongInputError(f"{run} is no run: it has no {CONFIG}")
    options.config, options.variant = [str(run / CONFIG)], None
    experiment, built, checkpoint = load_trained(options, overrides)
    folder = Path(options.out) if options.out else run / "export"
    found = load_checkpoint(checkpoint)
    if NETWORK not in found:
        raise WrongInputError(f"{checkpoint} does not name its network's class; it was written by an earlier version")
    scores, split = _scores(built)
    network = Answering(built.model.cpu().eval(), built.data, found).eval()
    rows = _rows(built.data)
    path = folder / kind.file
    with as_wrong_input("cannot write the export: "):
        folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exporters, about what they do inside
        for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch._export"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            kind.write(network, rows, path)
            difference = _difference(network, kind.read(network, path), rows)
        except OSError:
            raise
        except Exception as error:  # exporters raise many kinds
            path.unlink(missing_ok=True)
            raise FailedError(f"{options.format} cannot hold this network: {one_line(error)[:300]}") from error
    if not difference <= _TOLERANCE:
        path.unlink(missing_ok=True)
        raise FailedError(
            f"the {options.format} file differs from the network by {difference:.1e} of its largest answer; "
            "nothing was exported"
        )
    if DATA in found:
        write_text(folder / ENCODING, json.dumps(found[DATA], indent=2) + "\n")
    exported = Exported(path, hashlib.sha256(path.read_bytes()).hexdigest(), len(rows), difference)
    write_text(folder / CARD, model_card(experiment, built, run, checkpoint, scores, split, exported))
    print(f"{path}: as the network on {len(rows)} rows, in batches of 1 to {len(rows)}, to {difference:.1e}")
    print(f"with {folder / CARD}" + f" and {folder / ENCODING}" * (DATA in found))
    return 0


def _scores(built: Any) -> tuple[Scores, str]:
    """The scores on the test split, or on the validation split if there is no test split; and the name of the split."""
    split = "test" if has_test_split(built.data) else "validation"
    trainer = quiet_trainer(built)
    with as_wrong_input():
        (trainer.test if split == "test" else trainer.validate)(built.model, built.data, verbose=False)
    return built.model.scores or Scores({}), split


def _rows(data: Any) -> Tensor:
    """Up to 64 real samples (N, *input_shape), encoded as the network gets them."""
    if isinstance(data, InMemoryData):
        x = in_memory((data.splits.test or data.splits.train)[0][:_ROWS])
        return data.pixels(x) if data.pixels is not None and x.dtype == torch.uint8 else x
    return next(iter(data.train_dataloader()))[0][:_ROWS]  # type: ignore[no-any-return]


def _difference(network: Answering, read: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    """The largest difference between the two outputs, relative to the largest output."""
    worst = 0.0
    for count in _BATCHES:
        expected, found = network(rows[:count]), read(rows[:count])
        if found.shape != expected.shape or not bool(found.isfinite().all()):
            return float("inf")
        scale = expected.abs().max().clamp_min(1e-12)
        worst = max(worst, float((found - expected).abs().max() / scale))
    return worst


def _write_safetensors(network: Answering, rows: Tensor, path: Path) -> None:
    from safetensors.torch import save_file

    metadata = {"network": network.checkpoint[NETWORK], "task": network.task}
    save_file({name: t.contiguous().clone() for name, t in network.network.state_dict().items()}, path, metadata)


def _read_safetensors(network: Answering, path: Path) -> Callable[[Tensor], Tensor]:
    """A network of the same class with the weights of the file."""
    from safetensors.torch import load_file

    twin = Answering(network_of(network.checkpoint | {"state_dict": load_file(path)}, path), None, network.checkpoint)
    twin.mean, twin.std = network.mean, network.std
    return twin.eval()


def _write_pt2(network: Answering, rows: Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(network, (rows,), dynamic_shapes=({0: batch},), strict=False), path)


def _write_onnx(network: Answering, rows: Tensor, path: Path) -> None:
    program = torch.onnx.export(
        network,
        (rows,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        verbose=False,
        input_names=["x"],
        output_names=["answer"],
    )
    assert program is not None
    program.save(path, external_data=False)


def _read_onnx(network: Answering, path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


_FORMATS = {
    "safetensors": _Format("model.safetensors", ("safetensors",), _write_safetensors, _read_safetensors),
    "onnx": _Format("model.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "pt2": _Format("model.pt2", (), _write_pt2, lambda _, path: torch.export.load(path).module()),
}
