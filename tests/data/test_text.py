from pathlib import Path
from pydoc_data.topics import topics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from build import build
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from unvanish.data.text import Text

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
needs_shakespeare = pytest.mark.skipif(not SHAKESPEARE.is_file(), reason=f"no {SHAKESPEARE}")
ENGLISH = topics["lambda"] + topics["strings"]
SPLITS = ("train", "validation", "test")


@pytest.fixture
def load(tmp_path):
    def read(text=ENGLISH, **options):
        path = tmp_path / "text.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return build(Text, str(path), **{"context_length": 13, "batch_size": 7} | options)

    return read


def rank(index=0, world_size=1, device="cpu"):
    root = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=root, global_rank=index, world_size=world_size, overfit_batches=0)


def storage_bytes(*tensors):
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


@pytest.mark.parametrize("tokenizer", ["character", "bpe"])
@pytest.mark.parametrize("stride", [1, 3, 13, 17])
def test_windows_are_slices_of_the_text_and_y_is_x_one_token_on(load, tokenizer, stride):
    vocabulary = 307 if tokenizer == "bpe" else None
    data = load(tokenizer=tokenizer, vocabulary=vocabulary, stride=stride, validation_share=0.2, test_share=0.1)
    trained, tested = int(0.7 * len(ENGLISH)), round(0.1 * len(ENGLISH))
    texts = ENGLISH[:trained], ENGLISH[trained : len(ENGLISH) - tested], ENGLISH[len(ENGLISH) - tested :]
    for name, text, step in zip(SPLITS, texts, (stride, 13, 13), strict=True):
        x, y = getattr(data.splits, name)
        ids = data.tokenizer.encode(text)
        starts = range(0, len(ids) - 13, step)
        assert (x.dtype, y.dtype) == (torch.int64, torch.int64)
        assert x.tolist() == [ids[start : start + 13] for start in starts]
        assert y.tolist() == [ids[start + 1 : start + 14] for start in starts]


@needs_shakespeare
def test_tiny_shakespeare_is_split_and_numbered_as_nanogpt_does():
    data = build(Text, str(SHAKESPEARE), context_length=64, stride=1, test_share=0.0, batch_size=12)
    characters = SHAKESPEARE.read_text(encoding="utf-8")
    numbers = {character: number for number, character in enumerate(sorted(set(characters)))}
    ids = np.array([numbers[character] for character in characters])
    assert data.vocabulary_size == data.output_size == 65
    train, validation = ids[: int(len(ids) * 0.9)], ids[int(len(ids) * 0.9) :]
    assert (len(train), len(validation)) == (1_003_854, 111_540)  # as nanoGPT's data/shakespeare_char says

    x, y = data.splits.train
    assert len(x) == 1_003_854 - 64  # nanoGPT draws torch.randint(len(data) - block_size)
    for start in (0, 1, 500_009, len(x) - 1):
        assert np.array_equal(x[start], train[start : start + 64])
        assert np.array_equal(y[start], train[start + 1 : start + 65])
    x, y = data.splits.validation
    assert np.array_equal(x.flatten(), validation[: 64 * len(x)])
    assert np.array_equal(y.flatten(), validation[1 : 64 * len(y) + 1])


@needs_shakespeare
def test_a_million_windows_take_the_memory_of_their_tokens():
    splits = build(Text, str(SHAKESPEARE), stride=1, test_share=0.0).splits
    assert storage_bytes(*splits.train) == 1_003_854 * 8


def test_the_text_of_python_itself():
    data = Text()
    text = "\n".join(topics[name] for name in sorted(topics))
    size = len(set(text))
    assert (data.task, data.input_shape, data.padding_index) == ("next_token", (64,), None)
    assert data.output_size == data.vocabulary_size == data.tokenizer.vocabulary_size == size
    assert data.class_names is data.target_mean is None
    x, _ = data.splits.train
    assert data.tokenizer.decode(x.flatten().tolist()) == text[: x.numel()]


def test_byte_pairs_are_learnt_from_the_training_split_alone(load):
    text = "to be or not " * 50 + "zzzz " * 50
    options = {"tokenizer": "bpe", "vocabulary": 400, "validation_share": 0.2, "test_share": 0.1, "context_length": 3}
    data = load(text, **options)
    assert len(data.tokenizer.encode(" not")) == 1
    assert len(data.tokenizer.encode("zzzz")) == 4
    assert data.tokenizer.decode(data.tokenizer.encode("naïve 世界")) == "naïve 世界"
    assert data.vocabulary_size < 400


def test_a_prompt_is_written_as_the_text_is_and_refused_by_its_unknown_characters(load):
    data = load("abcdefg" * 100)
    assert data.tokenizer.encode("gab") == [6, 0, 1]
    with pytest.raises(ValueError, match=r"^the vocabulary of 7 characters lacks 'é', '世'$"):
        data.tokenizer.encode("gé世")


@pytest.mark.parametrize("options", [{}, {"tokenizer": "bpe", "vocabulary": 307}])
def test_read_again_the_numbers_are_the_same(load, options):
    first, second = load(**options), load(**options)
    for split, again in zip(first.splits[:3], second.splits[:3], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(split, again, strict=True))


def test_a_byte_order_mark_is_no_text(load):
    assert torch.equal(load("\ufeff" + ENGLISH).splits.train[0], load().splits.train[0])


def test_only_training_is_shuffled_and_every_window_comes_once(load):
    data = load(stride=1)
    x, y = (torch.cat(parts) for parts in zip(*data.train_dataloader(), strict=True))
    assert not torch.equal(x, data.splits.train[0])
    assert torch.equal(x[:, 1:], y[:, :-1])
    both = torch.cat([x, y[:, -1:]], dim=1)
    wanted = torch.cat([data.splits.train[0], data.splits.train[1][:, -1:]], dim=1)
    assert sorted(both.tolist()) == sorted(wanted.tolist())
    for loader, split in (
        (data.val_dataloader(), data.splits.validation),
        (data.test_dataloader(), data.splits.test),
    ):
        assert all(torch.equal(torch.cat(parts), whole) for parts, whole in zip(zip(*loader), split, strict=True))  # noqa: B905


def test_ranks_share_the_windows(load):
    data, found = load(stride=1), []
    for index in range(3):
        data.trainer = rank(index, 3)
        found.append([x for x, _ in data.val_dataloader()])
    for index, batches in enumerate(found):
        assert torch.equal(torch.cat(batches), data.splits.validation[0][index::3])


@pytest.mark.parametrize("stride", [1, 5, 13])
def test_device_resident_tokens_move_and_windows_stay_views(load, stride):
    plain, moved = load(stride=stride), load(stride=stride, device_resident=True)
    moved.trainer = rank(device="meta")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        expected, loader = getattr(plain, name)(), getattr(moved, name)()
        for there, here in zip(loader.tensors, expected.tensors, strict=True):
            assert there.device.type == "meta"
            assert (there.shape, there.stride()) == (here.shape, here.stride())
            assert there.untyped_storage().nbytes() <= here.untyped_storage().nbytes()
        assert {tensor.device.type for tensor in next(iter(loader))} == {"meta"}


@pytest.mark.parametrize("stride", [1, 5, 13])
def test_tokens_that_moved_give_the_same_batches(load, stride, monkeypatch):
    plain, moved = load(stride=stride), load(stride=stride, device_resident=True)
    moved.trainer = rank()
    copies = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, _: copies.append(tensor) or tensor.clone())
    loader = moved.train_dataloader()
    monkeypatch.undo()
    assert copies[0].ndim == 1  # the tokens, before any window of them
    for (x, y), (x_moved, y_moved) in zip(plain.train_dataloader(), loader, strict=True):
        assert torch.equal(x, x_moved)
        assert torch.equal(y, y_moved)


class Diary(LightningModule):
    """Writes down which windows it is given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.trained = []

    def training_step(self, batch, _):
        self.trained.append(batch[0].tolist())
        return self.layer(batch[1].float().mean()[None]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
def test_a_resumed_fit_sees_the_windows_of_an_uninterrupted_one(load, tmp_path):
    def fit(checkpoint=None):
        model, every = Diary(), ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        loader = load(ENGLISH[:400], stride=5, batch_size=11).train_dataloader()
        Trainer(max_epochs=2, callbacks=[every], **quiet).fit(model, loader, ckpt_path=checkpoint, weights_only=True)
        return model.trained

    uninterrupted = fit()
    assert len(uninterrupted) == 12  # 62 windows, 11 a batch, two epochs
    for step in (1, 5, 6, 7):
        assert fit(tmp_path / f"step={step}.ckpt") == uninterrupted[step:]


def test_all_windows_but_the_test_split_s_train_where_none_validate(load):
    data = load(validation_share=0, test_share=0.5, stride=1, context_length=2)
    train, validation, test = data.splits[:3]
    assert (len(train[0]), validation) == (len(ENGLISH) // 2 - 2, ())
    assert len(test[0]) > 1
    assert data.val_dataloader() == []


def test_without_a_test_share_there_is_no_test_split(load):
    data = load(test_share=0.0)
    assert data.splits.test == ()
    assert len(data.splits.validation[0]) == (len(ENGLISH) - int(0.9 * len(ENGLISH)) - 1) // 13
    for loader in (data.test_dataloader, data.predict_dataloader):
        with pytest.raises(ValueError, match=r"^test_share is 0, so there is no test split$"):
            loader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "charcter"}, "unknown tokenizer 'charcter'; did you mean 'character'"),
        ({"vocabulary": 300}, "vocabulary is for tokenizer bpe"),
        ({"tokenizer": "bpe", "vocabulary": 255}, "vocabulary is 255; it must be at least 256"),
        ({"context_length": 0}, "context_length is 0; it must be at least 1"),
        ({"validation_share": -0.1}, "validation_share must be at least 0 and below 1, not -0.1"),
        ({"test_share": 0.9}, "test_share must be at least 0 and below 1 - validation_share, not 0.9"),
        ({"test_share": -0.1}, "test_share must be at least 0 and below"),
    ],
)
def test_arguments_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        build(Text, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "text.txt is empty"),
        (b"\n \n", "text.txt is empty"),
        (b"\xef\xbb\xbf", "text.txt is empty"),
        (b"a" * 1009 + b"\xff", "text.txt is not UTF-8: invalid start byte at byte 1009"),
        ("text".encode("utf-16"), "text.txt is not UTF-8: invalid start byte at byte 0"),
        (
            b"abc" * 3,
            "text.txt: the training split of 7 tokens is too short for a window, .* context_length [+] 1 = 14",
        ),
        (b"abc" * 43, "text.txt: the validation split of 13 tokens is too short for a window"),
    ],
)
def test_files_that_are_refused(load, content, message):
    with pytest.raises(ValueError, match=message) as refusal:
        _ = load(content).splits
    assert "\n" not in str(refusal.value)


def test_a_short_test_split_is_refused(load):
    with pytest.raises(ValueError, match=r"text.txt: the test split of 8 tokens is too short for a window"):
        _ = load("abcdefgh" * 20, test_share=0.05, validation_share=0.3).splits


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"^no file {path}$"):
            _ = build(Text, str(path)).vocabulary_size


def test_a_batch_greater_than_the_training_split_is_refused(load):
    with pytest.raises(ValueError, match="batch_size 1009 is greater than the training split of "):
        load(ENGLISH[:1000], batch_size=1009).train_dataloader()
