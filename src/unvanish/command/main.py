"""The command line: ``unvanish VERB``. torch is imported only by the verbs that need it."""

import argparse
import logging
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import unvanish
from unvanish.command import recipes
from unvanish.command.allowed import trusted_by
from unvanish.command.arguments import understood
from unvanish.command.early import check_early
from unvanish.command.environment import wait_briefly
from unvanish.command.errors import FailedError, StoppedError, WrongInputError
from unvanish.command.processes import is_first
from unvanish.names import nearest

_EPILOG = """\
Each key of a recipe is an option too:
  unvanish fit mlp/digits --model.activation=tanh --trainer.max_epochs=5
and `unvanish fit mlp/digits --help` lists them all.
"""
_TRAINED = ("validate", "test", "predict")


class _Parser(argparse.ArgumentParser):
    """Answers wrong input in one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        known = re.findall(r"[\w-]+", choice[2]) if choice else []
        raise WrongInputError(message + (nearest(choice[1], known) if choice else ""))


def main(argv: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The words after ``unvanish``; those of the process where None.

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
    if rest and options.verb not in ("fit", "diagnose", *_TRAINED, "generate", "compare", "search", "check", "export"):
        raise WrongInputError(f"unrecognized arguments: {' '.join(rest)}")
    with trusted_by(options, rest):
        code = _run(options, rest)
    sys.stdout.flush()  # here, where a closed pipe is no traceback
    return code


def answered(verb: Callable[[], int], *, whole: bool = False) -> int:  # noqa: PLR0911 - one for each way to end
    """Run a verb, and say what has ended it: in one line, but for a bug of the user's; the exit code.

    Args:
        verb: What to run.
        whole: Whether to show what nobody has foreseen with all its frames.
    """
    try:
        return verb()
    except WrongInputError as error:
        from unvanish.command.terminal import console, say

        say(f"unvanish: {error}", console(sys.stderr))
        return 2
    except FailedError as error:
        print(f"unvanish: {error}", file=sys.stderr)
        return 1
    except StoppedError as error:
        if not is_first():
            return 0  # Lightning takes another answer for a crash, and kills the first
        print(f"unvanish: {error}", file=sys.stderr)
        return 128 + error.signum
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        from unvanish.command.failures import tell

        return tell(error, whole=whole)
    except KeyboardInterrupt:
        print("unvanish: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def parser() -> argparse.ArgumentParser:
    """The verbs with their options; keys of recipes are not among them."""
    parser = _Parser(
        prog="unvanish",
        description=unvanish.__doc__.partition("\n")[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unvanish {unvanish.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    naming = _Parser(add_help=False, allow_abbrev=False)
    _add_trust(naming)
    recipe = _Parser(add_help=False, allow_abbrev=False, parents=[naming])
    recipe.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="RECIPE",
        help="a file or a packaged name, with or without -c; repeat to overlay",
    )
    recipe.add_argument("--variant", metavar="NAME", help="which one, where RECIPE is a comparison")
    recipe.add_argument("-h", "--help", action="store_true", help="show this, and with -c the recipe's keys as well")
    checkpoint = _Parser(add_help=False, allow_abbrev=False)
    checkpoint.add_argument(
        "--ckpt_path", metavar="FILE", help="a checkpoint to begin a new run from (fit) or to use (default: best)"
    )
    runs = _Parser(add_help=False, allow_abbrev=False)
    runs.add_argument("--runs", default="runs", metavar="DIR", help="where runs are kept (default: runs)")

    def add(verb: str, text: str, *parents: _Parser) -> argparse.ArgumentParser:
        with_help = recipe not in parents
        parser = verbs.add_parser(
            verb, help=text, description=text, parents=parents, add_help=with_help, allow_abbrev=False
        )
        parser.set_defaults(format_help=parser.format_help)
        return parser

    fit = add("fit", "train a network from a recipe", recipe, checkpoint, runs)
    _add_fit(fit)
    diagnose = add("diagnose", "judge a network by one batch and one backward pass, and try the fixes on it", recipe)
    _add_diagnose(diagnose)
    for verb, split in (("validate", "validation"), ("test", "test")):
        evaluate = add(verb, f"print a trained network's metrics on the {split} split", recipe, checkpoint, runs)
        evaluate.add_argument("--json", action="store_true", help="print JSON and nothing else")
    predict = add("predict", "write a trained network's predictions to a CSV file", recipe, checkpoint, runs)
    predict.add_argument("--out", metavar="FILE", help="the CSV file (default: predictions.csv in the run's folder)")
    predict.add_argument("--overwrite", action="store_true", help="replace what --out names")
    _add_export(add("export", "write a run's network in a format that others read, with a model card", checkpoint))
    generate = add("generate", "print text that a trained next-token network continues", recipe, checkpoint, runs)
    generate.add_argument("--prompt", default="\n", metavar="TEXT", help="what it goes on from (default: a new line)")
    generate.add_argument("--tokens", type=int, default=500, metavar="N", help="how many to add (default: 500)")
    generate.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 takes the likeliest (default: 0.8)"
    )
    generate.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest alone")
    compare = add("compare", "train variants on the same data with the same seeds, and print one table", runs, naming)
    _add_compare(compare)
    search = add("search", "look for the best values of a recipe's keys, by Optuna", recipe, runs)
    _add_search(search)
    _add_recipes(add("recipes", "list, show or copy the packaged recipes"))
    check = add("check", "hold a network to the contract of an architecture", recipe)
    check.add_argument("network", nargs="?", metavar="PATH", help="dotted path of a class: unvanish.MLP, or yours")
    check.add_argument("--input-shape", metavar="N,N", help="with PATH: axes of one sample, such as 3,32,32")
    check.add_argument("--output-size", type=int, metavar="N", help="with PATH: number of outputs")
    check.add_argument("--task", metavar="TASK", help="with PATH: binary, multiclass, regression or next_token")
    check.add_argument("--vocabulary-size", type=int, metavar="N", help="with PATH: the input is tokens, of so many")
    check.add_argument("--padding-index", type=int, metavar="N", help="with PATH: the token that fills a text up")
    _add_exercise(
        add("exercise", "list the primer's formulas as exercises, write the file of one, check what is written")
    )
    add("doctor", "print versions and devices, and what is broken")
    return parser


def _add_trust(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module whose code the recipe may name: yours, or one that you know; repeat for several",
    )
    verb.add_argument("--traceback", action="store_true", help="show an error with all that has led to it")


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("--no-gradients", dest="gradients", action="store_false", help="do not record the gradients")
    fit.add_argument(
        "--find-learning-rate",
        action="store_true",
        help="first a hundred steps with a growing rate, then train with that at which the loss fell fastest",
    )
    fit.add_argument("--test", action="store_true", help="test the best checkpoint in the end, and keep the scores")
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on with the newest run of this recipe, in its folder; with --ckpt_path with that checkpoint's run",
    )
    fit.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        metavar="N",
        help="longest time that a killed run may lose (default: 5)",
    )
    fit.add_argument(
        "--on-nonfinite",
        choices=("stop", "skip", "ignore"),
        default="stop",
        help="at a NaN or infinite loss or gradient: stop the run, skip the step, or train on (default: stop)",
    )


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("run", metavar="RUN", help="the run's folder: runs/mlp/csv/3")
    export.add_argument(
        "--format", choices=("safetensors", "onnx", "pt2"), required=True, help="pt2 is that of torch.export"
    )
    export.add_argument("--out", metavar="DIR", help="where to (default: export in the run's folder)")


def _add_diagnose(diagnose: argparse.ArgumentParser) -> None:
    diagnose.add_argument(
        "--steps", type=int, default=0, metavar="N", help="train each remedy for N steps, and rank them by their loss"
    )
    diagnose.add_argument("--list-findings", action="store_true", help="print all that may be found, and what to do")
    diagnose.add_argument("--json", action="store_true", help="print JSON and nothing else")
    diagnose.add_argument(
        "--fail-on", default="", metavar="VERDICTS", help="exit 1 on any of them: vanishing,exploding"
    )
    diagnose.add_argument("--model", metavar="PATH", help="instead of RECIPE: torchvision.models.resnet18, or yours")
    diagnose.add_argument("--input-shape", metavar="N,N", help="with --model: axes of one sample, such as 3,224,224")


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE|RUN",
        help="comparisons or recipes: files, or packaged names: vanishing/mlp; or folders of runs: runs/mlp/digits",
    )
    compare.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each variant (default: 1)")
    compare.add_argument(
        "--set", action="append", default=[], metavar="KEY=V,V", help="a variant for each value; repeat for a grid"
    )
    compare.add_argument("--target", type=float, metavar="X", help="count steps and seconds to this validation metric")
    compare.add_argument("--out", metavar="DIR", help="where to keep it; what is there already is not trained again")
    compare.add_argument(
        "--jobs", type=int, metavar="N", help="runs side by side (default: 1; with Ray as many as CPUs or GPUs)"
    )
    compare.add_argument(
        "--launcher",
        choices=("local", "ray"),
        default="local",
        help="processes of this machine, or Ray, here or on a cluster (default: local)",
    )
    compare.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster (default: RAY_ADDRESS, else here)")


def _add_recipes(recipes_verb: argparse.ArgumentParser) -> None:
    known = recipes_verb.add_subparsers(dest="action", metavar="ACTION")
    known.add_parser("list", help="their names (the default)")
    show = known.add_parser("show", help="print one")
    _add_trust(show)
    show.add_argument("name")
    show.add_argument("--resolved", action="store_true", help="with all the defaults it leaves unsaid")
    show.add_argument("--variant", help="which one, where it is a comparison")
    copy = known.add_parser("copy", help="copy one, to change it")
    copy.add_argument("name")
    copy.add_argument("target", nargs="?", default=".", help="a file or a folder (default: here)")


def _add_exercise(exercise: argparse.ArgumentParser) -> None:
    exercise.add_argument("name", nargs="?", metavar="NAME", help="4b, or a formula's name: write its file")
    ways = exercise.add_mutually_exclusive_group()
    ways.add_argument(
        "--check", action="store_true", help="hold what is written, or NAME alone, to the formula's proof"
    )
    ways.add_argument("--hint", type=int, nargs="?", const=1, metavar="N", help="a hint, of level 1 to 3 (default: 1)")
    ways.add_argument("--solution", action="store_true", help="print the formula itself")


def _add_search(search: argparse.ArgumentParser) -> None:
    search.add_argument("--space", metavar="FILE", help="YAML: each key with its values, or lo..hi or lo..hi,log")
    search.add_argument(
        "--set", action="append", default=[], metavar="KEY=lo..hi[,log]", help="one key, or KEY=V,V; over the file"
    )
    search.add_argument("--trials", type=int, default=50, metavar="N", help="how many (default: 50)")
    search.add_argument("--sampler", choices=("tpe", "random"), default="tpe", help="(default: tpe)")
    search.add_argument(
        "--pruner",
        choices=("verdict", "median", "none"),
        default="verdict",
        help="what stops a trial: findings that waiting does not cure, or Optuna's median (default: verdict)",
    )
    search.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    search.add_argument("--jobs", type=int, default=1, metavar="N", help="trials side by side (default: 1)")
    search.add_argument("--out", metavar="DIR", help="where to keep it; a study that is there goes on")


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
    quieten("stderr" if is_output_alone else "stdout")
    # Each verb has a function of its name, in a module of its own but for those that evaluate.
    rooms = {"compare": "compare.command", "search": "search.study", **dict.fromkeys(_TRAINED, "evaluate")}
    module = rooms.get(options.verb, options.verb)
    function = "evaluate" if options.verb in ("validate", "test") else options.verb
    run = getattr(import_module(f"unvanish.command.{module}"), function)
    return int(run(options, rest))


def quieten(stream: str) -> None:
    """Let our own words through, and of Lightning's only warnings: each run brings two advertisements."""
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
