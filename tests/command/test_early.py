import shlex
import subprocess
import sys

import pytest

from unvanish.command.errors import WrongInputError
from unvanish.command.experiment import Experiment
from unvanish.command.keys import check_keys
from unvanish.command.recipes import load

EARLY = [
    "fit",
    "fit quickstrat",
    "ftt quickstart",
    "fit quickstart --on-nonfinite=stpo",
    "fit quickstart --model.activaton tanh",
    "fit quickstart --lr 0.1",
    "test quickstart --frobnicate 3",
    "fit untrusted.yaml",
    "diagnose quickstart --model.activaton tanh",
    "compare quickstart --set model.activaton=tanh,relu",
    "search quickstart --set model.activaton=tanh,relu",
    "fit -c vanishing/mlp",
    "exercise 99",
]


def test_a_wrong_recipe_key_verb_or_option_is_answered_without_torch(workplace):
    (workplace / "untrusted.yaml").write_text("model: {class_path: mine.Net}\ndata: {class_path: unvanish.Images}")
    code = f"""
import sys
from unvanish.command.main import main
for words in {[shlex.split(words) for words in EARLY]}:
    assert main(words) == 2, words
    assert "torch" not in sys.modules, words
"""
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    "words",
    [
        "--model.activaton=tanh",
        "--lr=0.1",
        "--data.batch_size=3",
        "--frobnicate 3",
        "--trainer.max_epoch=3 --lr=1",
        "--model.foo.bar+=3",
        "",
    ],
)
def test_an_early_answer_has_the_words_of_the_parser(words, workplace):
    path = workplace / "own.yaml"
    wrong = "" if words else ", hiden_sizes: 3, training: {optimizer: {lr: 3}}"
    path.write_text(f"model: {{class_path: unvanish.MLP{wrong}}}\ndata: {{class_path: unvanish.Images}}")
    recipe, overrides = load([str(path)]), shlex.split(words)
    with pytest.raises(WrongInputError) as early:
        check_keys(recipe, overrides)
    with pytest.raises(WrongInputError) as late:
        Experiment.parse(recipe, overrides)
    assert str(early.value) == str(late.value)


def test_what_the_parser_takes_is_not_refused_early():
    given = {
        "trainer.callbacks+": "lightning.pytorch.callbacks.Timer",
        "trainer.logger.class_path": "lightning.pytorch.loggers.CSVLogger",
        "trainer.logger.init_args.save_dir": "x",
        "data.augmentation.crop": "1",
        "model.training.optimizer": '{"learning_rate": 0.25}',
        "seed": "-1",
    }
    recipe, overrides = load(["cnn/digits"]), [f"--{key}={value}" for key, value in given.items()]
    check_keys(recipe, overrides)
    arguments = Experiment.parse(recipe, overrides).arguments
    assert arguments.trainer.logger.init_args.save_dir == "x"
    assert arguments.model.training.optimizer.learning_rate == 0.25
    check_keys(recipe, ["-x", "stray"])  # no keys: the parser's to refuse


def test_of_a_network_of_the_users_own_no_key_is_judged(workplace):
    path = workplace / "own.yaml"
    path.write_text("model: {class_path: mine.Net, any: 3}\ndata: {class_path: unvanish.Images}")
    check_keys(load([str(path)]), ["--whatever=3"])
