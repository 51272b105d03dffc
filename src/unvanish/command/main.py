"""The command line: ``unvanish VERB``. torch is imported only by the verbs that need it."""

import argparse
import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from unvanish.command import recipes
from unvanish.command.allowed import trusted_by
from unvanish.command.arguments import understood
from unvanish.command.early import check_early
from unvanish.command.environment import wait_briefly
from unvanish.command.errors import FailedError, StoppedError, WrongInputError
from unvanish.command.processes import is_first
from unvanish.command.verbs import parser

_TRAINED = ("validate", "test", "predict")


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The words after ``unvanish``; None for those of the process.

    Returns:
        0 done, 1 failed, 2 wrong input, 130 interrupted, 143 terminated.
    """
    wait_briefly()
    words = sys.argv[1:] if argv is None else argv
    return answered(lambda: _main(words), whole="--traceback" in words)


def _main(argv: list[str]) -> int:
    verbs = parser()
    if "_ARGCOMPLETE" in os.environ:
        from unvanish.command.completion import complete

        complete(verbs)
    words = understood(argv, verbs)
    if not words:
        verbs.print_help()
        return 0
    options, rest = verbs.parse_known_args(words)
    options.words = argv
    if rest and options.verb not in ("fit", "diagnose", *_TRAINED, "generate", "compare", "search", "check", "export"):
        raise WrongInputError(f"unrecognized arguments: {' '.join(rest)}")
    with trusted_by(options, rest):
        code = _run(options, rest)
    sys.stdout.flush()  # here, where a closed pipe is no traceback
    return code


def answered(verb: Callable[[], int], *, whole: bool = False) -> int:  # noqa: PLR0911 - one for each way to end
    """Run a verb and return its exit code. An error is printed in one line, a bug in the user's code with a traceback.

    Args:
        verb: What to run.
        whole: Whether to print unexpected errors with their full traceback.
    """
    try:
        return verb()
    except WrongInputError as error:
        return _ended(error, 2)
    except FailedError as error:
        return _ended(error, 1)
    except StoppedError as error:
        # Lightning takes another answer than 0 for a crash, and kills the first.
        return _ended(error, 128 + error.signum) if is_first() else 0
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        from unvanish.command.failures import tell

        return tell(error, whole=whole)
    except KeyboardInterrupt:
        print("unvanish: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _ended(error: BaseException, code: int) -> int:
    """Print an error, wrapped at words on a terminal, and return the code."""
    from unvanish.command.terminal import console, say

    say(f"unvanish: {error}", console(sys.stderr))
    return code


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    if options.verb == "recipes":
        return _recipes(options)
    if options.verb == "doctor":
        from unvanish.command.doctor import doctor

        return doctor()
    if options.verb == "exercise":
        from unvanish.command.exercise import exercise

        return exercise(options, rest)
    if getattr(options, "help", False):
        return _help(options)
    check_early(options, rest)
    is_output_alone = options.verb == "generate" or getattr(options, "json", False)
    if options.verb == "search" or (options.verb == "compare" and options.launcher == "local"):
        from unvanish.command.compare.local import warm

        warm()  # it imports meanwhile what this process does
    needs_lightning = options.verb != "diagnose" or not (options.model or options.list_findings)
    quieten("stderr" if is_output_alone else "stdout", needs_lightning=needs_lightning)
    # Each verb has a function of its name, in a module of its own but for those that evaluate.
    rooms = {"compare": "compare.command", "search": "search.study", **dict.fromkeys(_TRAINED, "evaluate")}
    module = rooms.get(options.verb, options.verb)
    function = "evaluate" if options.verb in ("validate", "test") else options.verb
    run = getattr(import_module(f"unvanish.command.{module}"), function)
    return int(run(options, rest))


def quieten(stream: str, *, needs_lightning: bool = True) -> None:
    """Print our own log, and of Lightning's only warnings: it prints two advertisements in each run.

    Args:
        stream: Where our log is printed, ``stdout`` or ``stderr``.
        needs_lightning: Whether the verb imports Lightning.
    """
    if needs_lightning:
        import lightning.pytorch  # noqa: F401 - sets the level of its logger

    from unvanish.command.terminal import LogLines

    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - the first of several processes speaks
    ours = logging.getLogger("unvanish")
    ours.handlers = [LogLines(stream)]
    ours.setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)  # which process has died
    warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated")


def _help(options: argparse.Namespace) -> int:
    print(options.format_help())
    if options.config:
        from unvanish.command.experiment import Experiment

        print(Experiment.parse(recipes.load(options.config, options.variant), []).parser.format_help())
    return 0


def _recipes(options: argparse.Namespace) -> int:
    if options.action == "show" and options.resolved:
        from unvanish.command.experiment import Experiment

        print(Experiment.parse(recipes.load([options.name], options.variant), []).resolved(), end="")
    elif options.action == "show":
        path = recipes.locate(options.name)
        recipes.read(path)  # refuses what is none
        print(path.read_text(encoding="utf-8"), end="")
    elif options.action == "copy":
        print(recipes.copy(options.name, Path(options.target)))
    else:
        from unvanish.command.recipe_list import recipe_list

        print(recipe_list(shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    return 0
