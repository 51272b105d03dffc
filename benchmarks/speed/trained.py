"""A recipe trained as the command does it, in this process, and what it took."""

import contextlib
import gc
import io
import json
import tempfile
from pathlib import Path

import lightning as L

from unvanish.command.allowed import trusted_by
from unvanish.command.fit import fit
from unvanish.command.main import quieten
from unvanish.command.verbs import parser


def trained(*words: str, callbacks: tuple[L.Callback, ...] = ()) -> dict[str, float]:
    """``unvanish fit`` with these words, its monitor on: ``seconds`` of training, and the scores by their names."""
    with tempfile.TemporaryDirectory() as folder:
        options, overrides = parser().parse_known_args(["fit", *words, "--runs", folder])
        with contextlib.redirect_stdout(io.StringIO()), trusted_by(options, overrides):
            quieten("stdout")
            fit(options, overrides, callbacks=callbacks)
        (file,) = Path(folder).rglob("result.json")
        result = json.loads(file.read_text(encoding="utf-8"))
    gc.collect()  # a trainer and its data are a circle
    return {"seconds": result["seconds"], **result["scores"]}
