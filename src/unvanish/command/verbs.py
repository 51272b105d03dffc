"""The verbs of the command line and their options. The modules that carry them out are not imported here."""

import argparse
import re
from typing import NoReturn

import unvanish
from unvanish.command.errors import WrongInputError
from unvanish.names import nearest

_EPILOG = """\
Each key of a recipe is an option too:
  unvanish fit mlp/digits --model.activation=tanh --trainer.max_epochs=5
and `unvanish fit mlp/digits --help` lists them all.
"""


class _Parser(argparse.ArgumentParser):
    """Answers wrong input in one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        known = re.findall(r"[\w-]+", choice[2]) if choice else []
        raise WrongInputError(message + (nearest(choice[1], known) if choice else ""))


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs and their options; the keys of recipes are not part of it."""
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
        help="a file or the name of a packaged recipe, with or without -c; repeat to overlay",
    )
    recipe.add_argument("--variant", metavar="NAME", help="which one, where RECIPE is a comparison")
    recipe.add_argument("-h", "--help", action="store_true", help="show this, and with -c the recipe's keys as well")
    checkpoint = _Parser(add_help=False, allow_abbrev=False)
    checkpoint.add_argument(
        "--ckpt_path", metavar="FILE", help="a checkpoint to start a new run from (fit) or to use (default: best)"
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
    diagnose = add(
        "diagnose", "judge a network by one forward and one backward pass, and try fixes on the same batch", recipe
    )
    _add_diagnose(diagnose)
    for verb, split in (("validate", "validation"), ("test", "test")):
        evaluate = add(verb, f"print a trained network's metrics on the {split} split", recipe, checkpoint, runs)
        evaluate.add_argument("--json", action="store_true", help="print JSON and nothing else")
    predict = add("predict", "write a trained network's predictions to a CSV file", recipe, checkpoint, runs)
    predict.add_argument("--out", metavar="FILE", help="the CSV file (default: predictions.csv in the run's folder)")
    predict.add_argument("--overwrite", action="store_true", help="replace what --out names")
    _add_export(
        add("export", "export a run's network to a format that other programs read, with a model card", checkpoint)
    )
    generate = add("generate", "continue a text with a trained next-token network", recipe, checkpoint, runs)
    generate.add_argument("--prompt", default="\n", metavar="TEXT", help="the text to continue (default: a new line)")
    generate.add_argument("--tokens", type=int, default=500, metavar="N", help="how many to add (default: 500)")
    generate.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 picks the likeliest token (default: 0.8)"
    )
    generate.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens only")
    compare = add("compare", "train variants on the same data with the same seeds, and print one table", runs, naming)
    _add_compare(compare)
    search = add("search", "search for the best values of a recipe's keys with Optuna", recipe, runs)
    _add_search(search)
    _add_recipes(add("recipes", "list, show or copy the packaged recipes"))
    check = add("check", "check that a network keeps the contract of an architecture", recipe)
    check.add_argument("network", nargs="?", metavar="PATH", help="dotted path of a class: unvanish.MLP, or yours")
    check.add_argument("--input-shape", metavar="N,N", help="with PATH: axes of one sample, such as 3,32,32")
    check.add_argument("--output-size", type=int, metavar="N", help="with PATH: number of outputs")
    check.add_argument("--task", metavar="TASK", help="with PATH: binary, multiclass, regression or next_token")
    check.add_argument(
        "--vocabulary-size", type=int, metavar="N", help="with PATH: the input is tokens from a vocabulary of N"
    )
    check.add_argument("--padding-index", type=int, metavar="N", help="with PATH: the padding token")
    _add_exercise(add("exercise", "list the primer's formulas as exercises, start one, check your code"))
    add("doctor", "print versions and devices, and what is broken")
    return parser


def _add_trust(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module whose code the recipe may use: your own, or one that you trust; repeat for several",
    )
    verb.add_argument("--traceback", action="store_true", help="show an error with its full traceback")


def _add_fit(fit: argparse.ArgumentParser) -> None:
    fit.add_argument("--no-gradients", dest="gradients", action="store_false", help="do not record the gradients")
    fit.add_argument(
        "--find-learning-rate",
        action="store_true",
        help="first run a hundred steps with a growing rate, then train at the rate where the loss fell fastest",
    )
    fit.add_argument("--test", action="store_true", help="test the best checkpoint at the end, and keep the scores")
    fit.add_argument(
        "--resume",
        action="store_true",
        help="resume the newest run of this recipe in its folder; with --ckpt_path, resume that checkpoint's run",
    )
    fit.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        metavar="N",
        help="at most this much work is lost if the run is killed (default: 5)",
    )
    fit.add_argument(
        "--on-nonfinite",
        choices=("stop", "skip", "ignore"),
        default="stop",
        help="at a NaN or infinite loss or gradient: stop the run, skip the step, or ignore it (default: stop)",
    )


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("run", metavar="RUN", help="the run's folder: runs/mlp/csv/3")
    export.add_argument(
        "--format", choices=("safetensors", "onnx", "pt2"), required=True, help="pt2 is torch.export's format"
    )
    export.add_argument("--out", metavar="DIR", help="where to write (default: export in the run's folder)")


def _add_diagnose(diagnose: argparse.ArgumentParser) -> None:
    diagnose.add_argument(
        "--steps",
        type=int,
        default=0,
        metavar="N",
        help="train each remedy for N steps and rank them by the loss they reach",
    )
    diagnose.add_argument(
        "--list-findings", action="store_true", help="list all findings with their causes and remedies"
    )
    diagnose.add_argument("--json", action="store_true", help="print JSON and nothing else")
    diagnose.add_argument(
        "--fail-on",
        default="",
        metavar="VERDICTS",
        help="exit with 1 on any of these findings, such as vanishing,exploding",
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
    compare.add_argument(
        "--target", type=float, metavar="X", help="report the steps and seconds until this validation metric"
    )
    compare.add_argument(
        "--out", metavar="DIR", help="where to keep the comparison; runs that are there already are not repeated"
    )
    compare.add_argument(
        "--jobs", type=int, metavar="N", help="runs side by side (default: 1; with Ray as many as CPUs or GPUs)"
    )
    compare.add_argument(
        "--launcher",
        choices=("local", "ray"),
        default="local",
        help="processes on this machine, or Ray, on this machine or a cluster (default: local)",
    )
    compare.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster (default: RAY_ADDRESS, else here)")


def _add_recipes(recipes_verb: argparse.ArgumentParser) -> None:
    known = recipes_verb.add_subparsers(dest="action", metavar="ACTION")
    known.add_parser("list", help="their names (the default)")
    show = known.add_parser("show", help="print one")
    _add_trust(show)
    show.add_argument("name")
    show.add_argument("--resolved", action="store_true", help="with all defaults filled in")
    show.add_argument("--variant", help="which one, where it is a comparison")
    copy = known.add_parser("copy", help="copy one, to change it")
    copy.add_argument("name")
    copy.add_argument("target", nargs="?", default=".", help="a file or a folder (default: here)")


def _add_exercise(exercise: argparse.ArgumentParser) -> None:
    exercise.add_argument("name", nargs="?", metavar="NAME", help="4b, or a formula's name: write its file")
    ways = exercise.add_mutually_exclusive_group()
    ways.add_argument(
        "--check", action="store_true", help="check your code, or only that of NAME, against the formula's tests"
    )
    ways.add_argument("--hint", type=int, nargs="?", const=1, metavar="N", help="a hint, of level 1 to 3 (default: 1)")
    ways.add_argument("--solution", action="store_true", help="print the formula itself")


def _add_search(search: argparse.ArgumentParser) -> None:
    search.add_argument(
        "--space", metavar="FILE", help="a YAML file: each key with its values, or lo..hi or lo..hi,log"
    )
    search.add_argument(
        "--set", action="append", default=[], metavar="KEY=lo..hi[,log]", help="one key, or KEY=V,V; over the file"
    )
    search.add_argument("--trials", type=int, default=50, metavar="N", help="how many (default: 50)")
    search.add_argument("--sampler", choices=("tpe", "random"), default="tpe", help="(default: tpe)")
    search.add_argument(
        "--pruner",
        choices=("verdict", "median", "none"),
        default="verdict",
        help="what stops a trial: findings that more steps do not cure, and otherwise the median; or the median "
        "only, as in Optuna (default: verdict)",
    )
    search.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    search.add_argument("--jobs", type=int, default=1, metavar="N", help="trials side by side (default: 1)")
    search.add_argument("--out", metavar="DIR", help="where to keep the study; an existing one is continued")
