"""The runs of a comparison: those that are trained for it, and those that are there already."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unvanish.command.checkpoints import BEST, LAST
from unvanish.command.errors import WrongInputError
from unvanish.command.experiment import Experiment
from unvanish.command.recipes import CONFIG, Config, Recipe, flat, read
from unvanish.command.result import FAILED, FINISHED, RESULT, RUNNING, Result
from unvanish.command.run_folder import MARKER, emptied_run, is_marked, write_text


@dataclass(frozen=True)
class Run:
    """A variant with a seed.

    Args:
        variant: The variant's name.
        seed: Of the run.
        folder: Where it is kept, and its name in TensorBoard.
        config: The whole configuration as YAML; empty where the run is there already.
    """

    variant: str
    seed: int
    folder: Path
    config: str = ""

    @property
    def label(self) -> str:
        """Its name in a line."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def result(self) -> Result:
        """What has come of it; it has failed where there is none, or its process was killed."""
        try:
            result = Result.read(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return Result(self.variant, self.seed, FAILED, "there is no result of it")
        except (ValueError, KeyError, TypeError) as error:
            return Result(self.variant, self.seed, FAILED, str(error))
        return replace(result, error="it has not come to its end") if result.state == RUNNING else result

    @property
    def is_there(self) -> bool:
        """Whether its folder holds a result."""
        return (self.folder / RESULT).is_file()

    @property
    def is_same(self) -> bool:
        """Whether what is in its folder is of this very configuration."""
        try:
            return (self.folder / CONFIG).read_text(encoding="utf-8") == self.config
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to train."""
        return not self.config or (self.is_same and self.result.state == FINISHED)

    @property
    def is_replaced(self) -> bool:
        """Whether its folder holds a run of another configuration."""
        return is_marked(self.folder) and (self.folder / CONFIG).is_file() and not self.is_same

    def prepare(self) -> None:
        """Make its folder ready for ``fit --resume``: as it is where the run was interrupted, else with nothing in it.

        Raises:
            WrongInputError: it holds something that no run has made.
        """
        kept = any((self.folder / "checkpoints" / name).is_file() for name in (LAST, BEST))
        if not (kept and self.is_same and is_marked(self.folder) and self.result.state != FAILED):
            emptied_run(self.folder)
            write_text(self.folder / CONFIG, self.config)


def parse(recipe: Recipe, overrides: Sequence[str]) -> Experiment:
    """A recipe on one device: Lightning would start the whole command anew for a second one."""
    experiment = Experiment.parse(recipe, [*overrides])
    trainer = experiment.arguments.trainer
    if trainer.devices not in ("auto", "1", 1):
        raise WrongInputError(f"compare trains each run on one device; trainer.devices is {trainer.devices}")
    trainer.devices = "1"  # as it is read from the run's config.yaml
    return experiment


def runs_below(folders: Sequence[str]) -> list[Run]:
    """The runs in some folders, each of which is a run or holds runs at any depth; a variant is a configuration.

    A variant's name is the path of its first run, as far as its folders differ; seeds of one configuration make one.

    Raises:
        WrongInputError: there is no run in one of them.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        there = [folder] if _is_run(folder) else [marker.parent for marker in folder.rglob(MARKER)]
        below = sorted(filter(_is_run, there), key=_natural)
        if not below:
            raise WrongInputError(f"{folder} holds no run: a run's folder has a {CONFIG}, as `unvanish fit` leaves it")
        found += [path for path in below if path not in found]
    parent = Path(os.path.commonpath([path.absolute().parent for path in found])) if found else Path()
    names: dict[str, str] = {}
    runs = []
    for path in found:
        config = configuration(path)
        seed = int(config.get("seed", 0))
        name = path.absolute().relative_to(parent).as_posix()
        key = repr(sorted((key, repr(value)) for key, value in config.items() if key not in ("seed", "name")))
        runs.append(Run(names.setdefault(key, name.removesuffix(f"/seed{seed}")), seed, path))
    return runs


def configuration(folder: Path) -> Config:
    """The keys of a run's configuration, dotted."""
    return flat(read(folder / CONFIG))


def _is_run(folder: Path) -> bool:
    return is_marked(folder) and (folder / CONFIG).is_file()


def _natural(path: Path) -> list[tuple[int, str]]:
    """10 behind 9."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.as_posix())]
