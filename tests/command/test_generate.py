import pytest
import torch
import yaml

from unvanish.command.main import main
from unvanish.data import Text
from unvanish.networks.transformer import Transformer

LINE = "Schlaf, Kindlein, schlaf! Der Vater hütet die Schaf.\n"
RECIPE = {
    "model": {
        "class_path": "unvanish.networks.Transformer",
        "embedding_dim": 12,
        "num_heads": 3,
        "num_layers": 2,
        "training": {"regularization": {"dropout": 0.1}},
    },
    "data": {"class_path": "unvanish.data.Text", "path": "song.txt", "context_length": 7},
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
}
COUNT = 19  # past the context


def train(workplace, capsys, **groups):
    """Train the recipe song.yaml, with other groups in the place of some."""
    (workplace / "song.txt").write_text(LINE * 40, encoding="utf-8")
    (workplace / "song.yaml").write_text(yaml.safe_dump(RECIPE | groups))
    assert main(["fit", "-c", "song.yaml", "--no-gradients"]) == 0
    capsys.readouterr()


def generate(capsys, *words, prompt="Schlaf"):
    """What the command prints, which is nothing but the text and a new line."""
    capsys.readouterr()
    assert main(["generate", "-c", "song.yaml", "--prompt", prompt, "--tokens", str(COUNT), *words]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\n")
    return shown[:-1]


@pytest.mark.slow
def test_the_text_goes_on_as_a_loop_by_hand_does(workplace, capsys):
    train(workplace, capsys)
    (checkpoint,) = workplace.rglob("best.ckpt")
    model = Transformer.load_from_checkpoint(checkpoint, weights_only=True).eval()
    tokenizer = Text("song.txt", context_length=7).tokenizer
    tokens = tokenizer.encode("Schlaf")
    with torch.no_grad():
        for _ in range(COUNT):
            tokens.append(model(torch.tensor([tokens[-7:]]))[0, -1].argmax().item())
    assert generate(capsys, "--temperature=0") == tokenizer.decode(tokens)
    assert generate(capsys, "--top-k=1") == tokenizer.decode(tokens)
    assert generate(capsys, "--temperature=0", f"--ckpt_path={checkpoint}") == tokenizer.decode(tokens)


@pytest.mark.slow
def test_the_seed_decides_what_is_drawn(workplace, capsys):
    train(workplace, capsys)
    first, again, other = (generate(capsys, f"--seed={seed}") for seed in (3, 3, 5))
    assert first == again
    assert first != other
    assert {len(text) for text in (first, other)} == {len("Schlaf") + COUNT}
    assert first.startswith("Schlaf")
    assert set(first + other) <= set(LINE)


@pytest.mark.slow
def test_a_recurrent_network_with_byte_pairs_goes_on_too(workplace, capsys):
    train(
        workplace,
        capsys,
        model={"class_path": "unvanish.networks.Recurrent", "hidden_size": 13},
        data=RECIPE["data"] | {"tokenizer": "bpe", "vocabulary": 260},
    )
    assert generate(capsys, prompt="Δ, 東").startswith("Δ, 東")


TOKENS_ALONE = """
import torch
from unvanish.data import BatchLoader
import lightning

class Data(lightning.LightningDataModule):
    task, input_shape, output_size, vocabulary_size, padding_index = "next_token", (7,), 11, 11, None

    def __init__(self, rows: int = 13):
        super().__init__()
        self.rows = rows

    def train_dataloader(self):
        tokens = torch.arange(self.rows * 7).view(self.rows, 7) % 11
        return BatchLoader((tokens, tokens), 5)

    val_dataloader = train_dataloader
"""


def test_data_without_a_tokenizer_is_refused(workplace, capsys, monkeypatch):
    monkeypatch.syspath_prepend(workplace)
    monkeypatch.setenv("UNVANISH_TRUST", "tokens_alone")
    (workplace / "tokens_alone.py").write_text(TOKENS_ALONE)
    train(workplace, capsys, data={"class_path": "tokens_alone.Data"})
    assert main(["generate", "-c", "song.yaml"]) == 2
    shown = capsys.readouterr()
    assert "the data has no 'tokenizer', which turns text into tokens" in shown.err
    assert shown.out == ""


@pytest.mark.slow
def test_what_cannot_be_generated_is_answered_in_one_line(workplace, capsys):
    train(workplace, capsys)
    assert main(["fit", "-c", "mlp/wine", "--trainer.max_epochs=1", "--no-gradients"]) == 0
    capsys.readouterr()
    cases = [
        (["-c", "song.yaml", "--prompt", "Schläfer, 1"], "--prompt: the vocabulary of "),
        (["-c", "song.yaml", "--prompt", "Schläfer, 1"], "lacks '1', 'ä'"),
        (["-c", "song.yaml", "--prompt", ""], "--prompt is empty; it needs some text to continue"),
        (["-c", "song.yaml", "--tokens=-1"], "the number of tokens to add is -1; it must not be negative"),
        (["-c", "song.yaml", "--tokens=many"], "argument --tokens: invalid int value: 'many'"),
        (["-c", "song.yaml", "--temperature=-1"], "temperature is -1.0; it must be finite and not negative"),
        (["-c", "song.yaml", "--top-k=0"], "top_k is 0; it must be at least 1"),
        (["-c", "song.yaml", "--ckpt_path=none.ckpt"], "no checkpoint at none.ckpt"),
        (["-c", "mlp/wine"], "generate is for task next_token; that of "),
        (["-c", "mlp/digits"], "no run with a checkpoint in runs/mlp/digits: train one with `unvanish fit`"),
        ([], "which recipe? Say its name"),
    ]
    for words, message in cases:
        assert main(["generate", *words]) == 2, words
        shown = capsys.readouterr()
        assert shown.out == "", words
        answer = shown.err.splitlines()[-1]
        assert answer.startswith("unvanish: "), words
        assert message in answer, words
