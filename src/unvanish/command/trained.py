"""A trained network that predicts from new inputs without its recipe or training data."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any, final

import pandas as pd
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from unvanish.command.checkpoints import checkpoint_of, with_weights
from unvanish.command.errors import WrongInputError
from unvanish.command.predictions import check_finite, prediction_table
from unvanish.data.encoding import Encoded, Known
from unvanish.networks.pretrained import without_pretrained
from unvanish.training import ReferenceModule
from unvanish.training.module import DATA, NETWORK


@final
class Trained:
    """A trained network together with the encoding of its inputs.

    Args:
        network: The network, in eval mode and on the CPU.
        known: What the checkpoint stores about the data: description and encoding.
        checkpoint: The file it was loaded from.
    """

    def __init__(self, network: ReferenceModule, known: Known, checkpoint: Path) -> None:
        self.network, self.known, self.checkpoint = network, known, checkpoint

    def __repr__(self) -> str:
        found = self.known.description
        inputs, outputs = list(found.input_shape), found.class_names or found.target_names or found.output_size
        return f"{type(self.network).__name__} of {self.checkpoint}, {found.task}: {inputs} to {outputs}"

    def predict(self, inputs: Any, batch_size: int = 1024) -> pd.DataFrame:
        """Predict for each input, as ``unvanish predict`` does.

        Args:
            inputs: For tables a data frame, a file, or an array (N, F) in the order of the columns; for series the
                rows up to now, in the same forms; for images their paths, or an array of pixels; for texts a list of
                strings; for other data an array of x.
            batch_size: Number of samples in a forward pass.

        Returns:
            A table with ``prediction`` and ``probability_<class>``, or ``prediction_<target>`` in the target's own
            units; in front of them the ids of the rows and, if the input has the target, ``truth``.

        Raises:
            ValueError: The inputs are of another kind, or lack something.
            FileNotFoundError: There is no such file.
            FailedError: The network answers NaN or infinity.
        """
        encoded = self.known.encoding(inputs)
        return self.predict_encoded(encoded, batch_size)

    def predict_encoded(self, encoded: Encoded, batch_size: int = 1024) -> pd.DataFrame:
        """Predict for inputs that are already encoded; see ``predict``."""
        found = self.known.description
        if found.task == "next_token":
            raise ValueError("it continues text and has no prediction for a row; see `unvanish generate`")
        with torch.inference_mode():
            x = encoded.x
            batches = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
            outputs = torch.cat([self.network.predict_step((batch,), i) for i, batch in enumerate(batches)]).float()
        if found.task == "regression":
            outputs = self.known.in_units(outputs, encoded)
        check_finite(outputs, self.checkpoint)
        return prediction_table(
            outputs,
            found.task,
            class_names=found.class_names,
            target_names=found.target_names,
            carried=encoded.carried,
            rows=encoded.rows,
        )


def load(run: str | Path) -> Trained:
    """The trained network of a run, ready to predict.

    The checkpoint is read with ``weights_only=True``; the class of the network, which it names, is imported.

    Args:
        run: A run's folder, such as runs/mlp/csv/3, whose best checkpoint is used; or a checkpoint.

    Raises:
        ValueError: It is no checkpoint, or one of a version that did not store the encoding of the inputs.
    """
    path = Path(run)
    try:
        checkpoint = checkpoint_of(path) if path.is_dir() else path
        found = with_weights(checkpoint)
    except WrongInputError as error:
        raise ValueError(str(error)) from error
    for key in (NETWORK, DATA):
        if key not in found:
            raise ValueError(
                f"{checkpoint} does not say how its inputs are encoded; it was written by an earlier version"
            )
    network = network_of(found, checkpoint)
    return Trained(network, Known.from_plain(found[DATA]), checkpoint)


def network_of(found: dict[str, Any], checkpoint: Path) -> ReferenceModule:
    """Build the network of a checkpoint whose content has been read."""
    try:
        kind = resolve_name(found[NETWORK])
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{checkpoint}: its network {found[NETWORK]!r} cannot be imported: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, ReferenceModule)):
        raise ValueError(f"{checkpoint}: {found[NETWORK]!r} is no ReferenceModule")
    with isolate_rng(include_cuda=False), without_pretrained():
        network: ReferenceModule = kind(**found["hyper_parameters"])
    network.load_state_dict(found["state_dict"])
    return network.eval()
