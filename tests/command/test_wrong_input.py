import shlex

import pytest
import torch

from unvanish.command.main import main

FILES = {
    "typo.yaml": "model: {class_path: unvanish.MLP, hiden_sizes: [3]}\ndata: {class_path: unvanish.Images}",
    "syntax.yaml": "model:\n  - : [\n",
    "list.yaml": "- 1\n",
    "no_model.yaml": "data: {class_path: unvanish.data.Images}",
    "no_class.yaml": "model: {class_path: unvanish.networks.MPL}\ndata: {class_path: unvanish.data.Images}",
    "other_class.yaml": "model: {class_path: torch.nn.Linear}\ndata: {class_path: unvanish.data.Images}",
    "comparison.yaml": "base: quickstart\nvariants: {a: {model.activaton: tanh}}",
    "dots.yaml": "base: quickstart\nvariants: {..: {}}",
    "nested.yaml": "base: vanishing/mlp\nvariants: {a: {}}",
    "flat_grid.yaml": "base: mlp/deep_sigmoid\ngrid: {model.num_layers: 5}",
    "no_goal.yaml": "base: quickstart\nvariants: {a: {}}\ntarget: high",
    "stray_key.yaml": "base: quickstart\nvariants: {a: {}}\nseeds: 3",
    "no_variants.yaml": "base: quickstart\nvariants: {}",
    "incomplete.yaml": "model: {class_path: unvanish.MLP, hidden_sizes: 3}\ndata: {class_path: incomplete.Data}",
    "incomplete.py": "import lightning\nclass Data(lightning.LightningDataModule): input_shape = (3,); output_size = 2",
    "config.yaml": "model: {class_path: unvanish.MLP, hidden_sizes: 3}\ndata: {class_path: unvanish.Images}",
    "table.csv": "a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(60)),
    "nan.csv": "a,y\n" + "".join(f"{i},{'' if i == 7 else i % 2}\n" for i in range(60)),
    "lonely.csv": "a,y\n" + "".join(f"{i},{'z' if i == 7 else 'xw'[i % 2]}\n" for i in range(60)),
    "plain_file": "x",
    "adding.yaml": "model: {class_path: unvanish.MLP}\ndata: {class_path: unvanish.SyntheticSequence, data_seed: 3}",
    "empty.txt": "",
}

CASES = [
    ("fit", "which recipe? Say its name"),
    ("fit -c quickstrat", "no recipe 'quickstrat'", "did you mean 'quickstart'?"),
    ("fit -c typo.yaml", "typo.yaml: unknown key 'model.hiden_sizes'; did you mean 'model.hidden_sizes'?"),
    ("fit -c syntax.yaml", "syntax.yaml is not readable YAML", "line 2"),
    ("fit -c list.yaml", "list.yaml is not a recipe"),
    ("fit -c no_model.yaml", "no_model.yaml: model.class_path is missing"),
    ("fit -c no_class.yaml", "'unvanish.networks.MPL' cannot be imported"),
    ("fit -c other_class.yaml", "'torch.nn.Linear' is no ReferenceModule: it is the class Linear"),
    ("fit -c quickstart --model.activaton tanh", "unknown key 'model.activaton'; did you mean 'model.activation'?"),
    ("fit -c quickstart --trainer.max_epoch 3", "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
    ("fit -c quickstart stray", "no recipe 'stray': neither a file nor a packaged recipe"),
    ("fit quickstrat", "no recipe 'quickstrat'", "did you mean 'quickstart'?"),
    ("fit quickstart --lr 0.1", "unknown key 'lr'; the learning rate is model.training.optimizer.learning_rate"),
    ("fit quickstart --epochs=3", "unknown key 'epochs'; the number of epochs is trainer.max_epochs"),
    ("fit quickstart --batch-size 3", "unknown key 'batch-size'; the batch size is data.loading.batch_size"),
    (
        "fit quickstart --data.batch_size=3",
        "unknown key 'data.batch_size'; the batch size is data.loading.batch_size",
    ),
    (
        "fit adding.yaml",
        "adding.yaml: unknown key 'data.data_seed'; the seed of what is drawn is data.loading.split_seed",
    ),
    ("fit quickstart --dropout=0.1", "the dropout is model.training.regularization.dropout"),
    ("fit quickstart --droput 0.1", "did you mean 'model.training.regularization.dropout'?"),
    ("fit quickstart --seeds 3", "unknown key 'seeds'; did you mean 'seed'?"),
    ("fit quickstart --frobnicate 3", "unknown key 'frobnicate'"),
    ("compare quickstart --lr 0.1", "the learning rate is model.training.optimizer.learning_rate"),
    ("fit -c quickstart --model.hidden_sizes many", "model.hidden_sizes is 'many', expected list or int"),
    ("fit -c quickstart --model.residual maybe", "model.residual is 'maybe', expected bool"),
    ("fit -c quickstart --trainer.max_epochs many", "trainer.max_epochs is 'many', expected int or null"),
    ("fit -c quickstart --trainer.precision 17", "trainer.precision is '17', expected 64, 32, 16 or"),
    ("fit -c quickstart --model.hidden_sizes [0]", "hidden_sizes is [0]; every layer needs at least one unit"),
    ("fit -c quickstart --model.activation rleu", "unknown activation 'rleu'; did you mean 'relu'?"),
    ("fit -c quickstart --model.activation softmax", "softmax is for outputs only"),
    (
        "fit quickstart --model.training.schedule.name cosin",
        "unknown schedule 'cosin'; did you mean 'cosine'? (known: ",
    ),
    ("fit mlp/wine --data.dataset whine", "unknown dataset 'whine'; did you mean 'wine'? (known: breast_cancer, "),
    ("fit recurrent/adding_gru --model.cell gur", "unknown cell 'gur'; did you mean 'gru'? (known: rnn, lstm, gru)"),
    (
        "fit -c quickstart --model.training.optimizer.learning_rate -0.1",
        "learning_rate is -0.1; it must be finite and positive",
    ),
    ("fit -c quickstart --model.training.optimizer.name adma", "unknown optimizer 'adma'; did you mean 'adam'?"),
    ("fit -c quickstart --model.training.loss.name mse", "loss 'mse' is for regression tasks; this task is multiclass"),
    ("fit -c quickstart --trainer.accelerator warp", "invalid accelerator name: `accelerator='warp'`"),
    (
        "fit -c quickstart --data.loading.batch_size 100000",
        "batch_size 100000 is greater than the training split of 1294 rows",
    ),
    ("fit -c quickstart --data.dataset mnsit", "unknown dataset 'mnsit'; did you mean 'mnist'?"),
    ("fit -c mlp/csv --data.path nope.csv --data.target y", "no file nope.csv"),
    ("fit -c mlp/csv --data.path table.csv --data.target y", "table.csv: no column 'y'"),
    (
        "fit -c mlp/csv --data.path nan.csv --data.target y",
        "nan.csv: missing values in the target 'y' (1, the first in row 8",
    ),
    ("fit -c mlp/csv --data.path lonely.csv --data.target y", "lonely.csv, class 'z': 1 rows are too few"),
    ("fit -c quickstart --runs plain_file", "cannot write the run: Not a directory: plain_file"),
    ("fit -c quickstart --ckpt_path none.ckpt", "no checkpoint at none.ckpt"),
    ("fit -c quickstart --ckpt_path plain_file", "plain_file is not a checkpoint"),
    (
        "fit -c quickstart --ckpt_path other.ckpt",
        "other.ckpt is of another architecture: input_shape is (7,) there and (1, 8, 8) here",
    ),
    ("fit -c quickstart --variant plain", "--variant is for comparisons"),
    ("fit -c vanishing/mlp", "is a comparison and needs --variant: plain, relu_he"),
    ("fit -c vanishing/mlp --variant pain", "has no variant 'pain': plain, relu_he"),
    ("test -c mlp/wine", "no run with a checkpoint in runs/mlp/wine: train one"),
    ("compare quickstart mlp/wine --seeds 0", "--seeds is 0; it must be at least 1"),
    ("compare quickstart --jobs 0", "--jobs is 0; it must be at least 1"),
    ("compare quickstart quickstart", "quickstart is named twice"),
    ("compare quickstart mlp/diabetes", "these have several: quickstart has accuracy, mlp/diabetes has rmse"),
    ("compare quickstart --trainer.devices 2", "compare trains each run on one device; trainer.devices is 2"),
    ("compare quickstart --set model.activation", "it is KEY=V1,V2, such as model.num_layers=5,10,20"),
    ("compare quickstart --set model.activation=[tanh", "--set model.activation=[tanh: "),
    ("compare quickstart --set model.activation=tanh,tanh", "two values of one name: activation=tanh"),
    ("compare quickstart --set model.activaton=tanh", "unknown key 'model.activaton'"),
    ("compare quickstart --set model.activation=tanh,rleu", "unknown activation 'rleu'"),
    ("compare quickstart --out plain_file/x", "cannot write the comparison: Not a directory"),
    ("compare vanishing/mlp training/optimizers", "the targets differ: 0.9, 0.94; choose one by --target"),
    ("compare dots.yaml", "dots.yaml: variants are names with the keys that each of them changes, not '..'"),
    ("compare nested.yaml", "nested.yaml: base 'vanishing/mlp' is a comparison; it must be a recipe"),
    ("compare flat_grid.yaml", "a grid has keys with lists of values; model.num_layers has 5"),
    ("compare no_goal.yaml", "no_goal.yaml: target is 'high', expected a number"),
    ("compare stray_key.yaml", "stray_key.yaml is not a comparison: it has 'base', a recipe or the name of one"),
    ("compare comparison.yaml", "comparison.yaml: unknown key 'model.activaton'"),
    ("fit -c quickstart -c vanishing/mlp", "is a comparison, which cannot overlay a recipe"),
    ("fit -c quickstart --seed=-1", "-1"),
    ("fit -c incomplete.yaml --trust incomplete", "incomplete.yaml: the data has no 'task'"),
    ("compare no_variants.yaml", "no_variants.yaml: variants are names with the keys that each of them changes"),
    ("recipes copy quickstart nowhere/x.yaml", "No such file or directory"),
    ("test -c config.yaml", "has no checkpoint"),
    ("recipes show quikstart", "no recipe 'quikstart'", "did you mean 'quickstart'?"),
    ("recipes copy quickstart plain_file", "plain_file exists already"),
    ("diagnose", "which recipe? Say its name"),
    ("diagnose -c quickstart --fail-on vanish", "--fail-on: unknown finding 'vanish'; did you mean 'vanishing'?"),
    ("diagnose -c quickstart --steps -3", "--steps is -3; it is the number of steps"),
    ("diagnose --model torch.nn.ReLU --input-shape 3 --steps 3", "--steps goes with a recipe"),
    ("diagnose -c quickstart --input-shape 3,4", "--input-shape goes with --model"),
    ("diagnose -c quickstart --model.activaton tanh", "unknown key 'model.activaton'"),
    (
        "diagnose --model torchvision.models.resnet18",
        "which input? Give its shape: --model torchvision.models.resnet18 --input-shape",
    ),
    ("diagnose --model torchvision.models.resnet18 --input-shape 3x4", "--input-shape is '3x4'; it is whole numbers"),
    ("diagnose --model torchvision.models.resnet81 --input-shape 3,32,32", "did you mean 'resnet18'?"),
    (
        "diagnose --model torchvision.models.resnet18 --input-shape 5,32,32",
        "does not take an input of shape (16, 5, 32, 32)",
    ),
    ("diagnose --model torch.nn.ReLU --input-shape 3", "ReLU has no weight that trains"),
    ("diagnose --model os.getcwd --input-shape 3", "is a part of Python"),
    ("diagnose --model sys.exit --input-shape 3", "is a part of Python"),
    ("diagnose --model torch.nn.ReLU --input-shape=-1", "it is whole numbers such as"),
    ("diagnose --model torch.nn.ReLU -c quickstart --input-shape 3", "--model takes no recipe; -c is one too many"),
    ("check", "which network? Give its dotted path"),
    ("check unvanish.MPL", "'unvanish.MPL' cannot be imported"),
    ("generate -c recurrent/text", "no run with a checkpoint in runs/recurrent/text: train one"),
    ("fit -c hardware/gpu", "model.class_path is missing"),
    ("fit -c cnn/digits --model.normalization layer", "normalization 'layer' is not for images"),
    ("fit -c cnn/digits --data.augmentation.crop 8", "crop 8 is too large for images of 8 x 8 pixels"),
    ("fit -c cnn/image_folder --data.path nowhere", "nowhere"),
    ("fit -c recurrent/text --model.bidirectional true", "bidirectional is not for task next_token"),
    ("fit -c recurrent/adding_gru --model.activation relu", "activation 'relu' is for cell rnn"),
    ("fit -c recurrent/series_csv --data.path table.csv --data.targets [z]", "table.csv: no column 'z'"),
    ("fit -c recurrent/text_csv --data.path latin.csv", "latin.csv is not UTF-8"),
    ("fit -c transformer/text --data.path empty.txt", "empty.txt is empty"),
    ("fit -c transformer/digits --model.patch_size 3", "patch_size is 3; it must divide the image"),
    (
        "fit -c wrap/resnet18 --model.module torchvision.models.resnet81",
        "'torchvision.models.resnet81' cannot be imported",
        "did you mean 'resnet18'",
    ),
    ("frobnicate", "no verb 'frobnicate' (there are: fit, diagnose, "),
    ("ftt quickstart", "no verb 'ftt'; did you mean 'fit'? (there are: "),
    ("fit -c quickstart --trust os", "--trust: 'os' is a part of Python, of which a recipe may name nothing"),
    ("fit -c quickstart --trust a-b", "--trust: 'a-b' names no module"),
    ("fit quickstart --trainer.val_check_interval=0", "trainer.val_check_interval is 0; it must be above 0"),
    ("fit quickstart --trainer.accumulate_grad_batches=0", "accumulate_grad_batches is 0; it must be above 0"),
    ("fit quickstart --trainer.check_val_every_n_epoch=0", "check_val_every_n_epoch is 0; it must be above 0"),
    ("fit quickstart --trainer.devices=-1", "should be an int > 0"),
    ("fit quickstart --model.hidden_sizes=[99999999999999999999]", "a number is too large: "),
    (f"fit {'a' * 5000}", f"no recipe '{'a' * 100}...': neither a file nor a packaged recipe"),
    ("recipes show list.yaml", "list.yaml is not a recipe"),
    ("doctor now", "unrecognized arguments: now"),
]


@pytest.mark.slow
def test_every_wrong_input_is_answered_by_one_line_and_2_and_writes_nothing(workplace, capsys, monkeypatch):
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    for name, text in FILES.items():
        (workplace / name).write_text(text)
    torch.save({"state_dict": {}, "hyper_parameters": {"input_shape": (7,)}}, workplace / "other.ckpt")
    (workplace / "latin.csv").write_bytes("caf\u00e9,good\n".encode("latin-1"))
    before = sorted(workplace.rglob("*"))
    for words, *expected in CASES:
        assert main(shlex.split(words)) == 2, words
        answer = capsys.readouterr().err
        assert answer.startswith("unvanish: "), words
        assert answer.count("\n") == 1, words
        for part in expected:
            assert part in answer, words
        assert sorted(workplace.rglob("*")) == before, words


def test_data_that_is_absent_and_cannot_be_downloaded_names_the_folder_to_fill(workplace, capsys, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    assert main(["fit", "-c", "mlp/mnist", "--data.root=nowhere"]) == 2
    assert "put its files into nowhere/MNIST/raw" in capsys.readouterr().err
    assert not list(workplace.iterdir())


def test_what_only_the_trainer_can_refuse_leaves_no_run_behind(workplace, capsys):
    assert main(["fit", "-c", "quickstart", "--trainer.val_check_interval=1000"]) == 2
    answer = capsys.readouterr().err
    assert "val_check_interval" in answer
    assert answer.count("\n") == 1
    assert not any((workplace / "runs/quickstart").iterdir())
