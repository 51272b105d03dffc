import numpy as np
import pytest
import torch
import yaml
from build import build
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from unvanish.command.main import main
from unvanish.data import BatchLoader, Images
from unvanish.data.augmentation import UNCHANGED, Augmentation, PixelScale

BATCH, HEIGHT, WIDTH = 11, 7, 13
SHAPES = {"images": (BATCH, 3, HEIGHT, WIDTH), "clips": (BATCH, 3, 5, HEIGHT, WIDTH)}
BLACK = torch.tensor([-1.5, 0.25, -3.0])
QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
    "max_epochs": 2,
}


class Diary(LightningModule):
    """Keeps the x of every batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "validate": [], "test": [], "predict": []}

    def training_step(self, batch, index):
        self.seen["train"].append(batch[0].clone())
        return self.weight * batch[0].mean()

    def validation_step(self, batch, index):
        self.seen["validate"].append(batch[0].clone())

    def test_step(self, batch, index):
        self.seen["test"].append(batch[0].clone())

    def predict_step(self, batch, index):
        self.seen["predict"].append(batch[0].clone())
        return batch[0]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def black(x):
    return BLACK.view(3, *[1] * (x.ndim - 2))


def one_by_one(augmentation, x, seed):
    """Another way to the same end: each sample is padded, sliced, flipped and cut by loops."""
    random = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    margin, side = augmentation.crop, augmentation.cutout
    offsets = torch.randint(-margin, margin + 1, (2, len(x)), generator=random).tolist()
    flips = torch.randint(2, (len(x),), generator=random).tolist()
    centres = [torch.randint(size, (len(x),), generator=random).tolist() for size in x.shape[-2:]]
    result = []
    for i, sample in enumerate(x):
        padded = black(x).expand(*sample.shape[:-2], HEIGHT + 2 * margin, WIDTH + 2 * margin).clone()
        padded[..., margin : margin + HEIGHT, margin : margin + WIDTH] = sample
        top, left = margin + offsets[0][i], margin + offsets[1][i]
        window = padded[..., top : top + HEIGHT, left : left + WIDTH].clone()
        if augmentation.flip and flips[i]:
            window = window.flip(-1)
        for row in range(centres[0][i] - side // 2, centres[0][i] - side // 2 + side):
            for column in range(centres[1][i] - side // 2, centres[1][i] - side // 2 + side):
                if 0 <= row < HEIGHT and 0 <= column < WIDTH:
                    window[..., row, column] = 0
        result.append(window)
    return torch.stack(result)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "options",
    [{"crop": 2}, {"flip": True}, {"cutout": 3}, {"cutout": 4}, {"crop": 3, "flip": True, "cutout": 5}],
    ids=str,
)
def test_a_batch_is_what_a_loop_over_its_samples_gives(shape, options):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    for seed in ((0, 0, 0, 0), (3, 1, 4, 1)):
        changed = Augmentation(**options)(x, black(x), seed)
        assert torch.equal(changed, one_by_one(Augmentation(**options), x, seed))
        assert not torch.equal(changed, x)
    assert torch.equal(x, before)


def test_without_options_a_batch_is_left_as_it_is():
    x = torch.randn(SHAPES["images"])
    assert UNCHANGED(x, black(x), (0, 0, 0, 0)) is x


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_is_kept(dtype):
    x = torch.randn(SHAPES["clips"], dtype=dtype)
    assert Augmentation(1, True, 2)(x, black(x), (0, 0, 0, 0)).dtype == dtype


def test_every_shift_and_both_sides_come_equally_often_and_a_sample_s_own():
    # A single white pixel shows where its image went.
    x = torch.zeros(9000, 1, 9, 9)
    x[:, :, 4, 4] = 1
    rows, columns = Augmentation(crop=1)(x, torch.zeros(1, 1, 1), (0, 0, 0, 0)).nonzero()[:, 2:].T
    counts = torch.bincount(rows * 9 + columns, minlength=81).view(9, 9)[3:6, 3:6]
    assert counts.sum() == 9000
    assert (counts - 1000).abs().max() < 150  # five standard deviations

    x[:, :, 4, 4], x[:, :, 4, 1] = 0, 1
    columns = Augmentation(flip=True)(x, torch.zeros(1, 1, 1), (0, 0, 0, 0)).nonzero()[:, 3]
    assert set(columns.tolist()) == {1, 7}
    assert abs((columns == 7).sum() - 4500) < 250


def test_one_option_does_not_change_what_another_draws():
    x = torch.randn(SHAPES["images"]).abs() + 1
    seed = (0, 1, 2, 3)
    cut = Augmentation(cutout=3)(x, black(x), seed) == 0
    both = Augmentation(flip=True, cutout=3)(x, black(x), seed) == 0
    assert torch.equal(cut, both)


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives():
    x = torch.randn(SHAPES["clips"])
    augmentation = Augmentation(2, True, 3)
    on_gpu = augmentation(x.cuda(), black(x), (5, 6, 7, 8))
    assert torch.equal(on_gpu.cpu(), augmentation(x, black(x), (5, 6, 7, 8)))


def test_pixels_are_scaled_per_channel_and_a_flat_channel_only_centred():
    pixels = torch.tensor([[3, 5], [7, 7]], dtype=torch.uint8).view(2, 2, 1, 1)
    scale = PixelScale(torch.tensor([5.0, 6.0]).view(2, 1, 1), torch.tensor([2.0, 0.0]).view(2, 1, 1))
    assert scale(pixels).flatten().tolist() == [-1, -1, 1, 1]
    assert torch.equal(scale(torch.zeros(1, 2, 1, 1))[0], scale.black)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": -1}, "augmentation.crop is -1; it must be at least 0"),
        ({"crop": 8}, "augmentation: crop 8 is too large for images of 8 x 8 pixels"),
        ({"cutout": 9}, "augmentation: cutout 9 is larger than images of 8 x 8 pixels"),
    ],
)
def test_nonsense_is_refused_in_one_line(options, message, workplace, capsys):
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(Images, "digits", augmentation=Augmentation(**options))
    words = [f"--data.augmentation.{key}={value}" for key, value in options.items()]
    assert main(["fit", "-c", "mlp/digits", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(workplace.iterdir())


def digits(**options):
    return build(Images, **{"batch_size": 400, "seed": 5, "augmentation": Augmentation(crop=2, flip=True)} | options)


def fit(data, *callbacks, checkpoint=None, **options):
    """What a fit on ``data`` trains on."""
    model = Diary()
    trainer = Trainer(callbacks=list(callbacks), **QUIET | {"enable_checkpointing": bool(callbacks)} | options)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return model.seen["train"]


def test_training_batches_alone_vary_by_seed_epoch_and_batch():
    data, model = digits(), Diary()
    trainer = Trainer(enable_checkpointing=False, **QUIET)
    trainer.fit(model, data)
    trainer.validate(model, data, verbose=False)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)

    loader, expected = data.train_dataloader(), []
    for epoch in range(2):
        plain = [x for x, _ in loader]
        changed = [data.augmentation(x, data.pixels.black, (5, epoch, i, 0)) for i, x in enumerate(plain)]
        assert not any(map(torch.equal, plain, changed))
        expected += changed
    assert len(expected) == 8
    assert all(map(torch.equal, model.seen["train"], expected))

    (validation, _), (test, _) = data.splits[1:3]
    epochs = torch.cat(model.seen["validate"]).split(len(validation))
    assert len(epochs) == 4  # a check before the first epoch, two epochs, and one more
    assert all(torch.equal(epoch, validation) for epoch in epochs)
    assert torch.equal(torch.cat(model.seen["test"]), test)
    assert torch.equal(torch.cat(model.seen["predict"]), test)


def test_what_a_crop_adds_is_the_background_after_normalising():
    data = digits(augmentation=Augmentation(crop=7))
    background = data.splits.train[0].min()  # black is 0 in these images
    assert data.pixels.black.item() == background.item()
    moved = torch.cat(fit(data, max_epochs=1))
    # A shift by 7 leaves one row or column of the image.
    assert (moved == background).all(dim=2).sum(dim=-1).max() == 8
    assert moved.min() == background


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"limit_train_batches": 3}], ids=str)
def test_a_resumed_run_sees_what_an_uninterrupted_one_would(tmp_path, options):
    every_step = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(digits(), every_step, **options)
    assert len({x.sum().item() for x in whole}) == len(whole)
    checkpoints = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-1]
    assert len(checkpoints) >= 3
    for checkpoint in checkpoints:
        rest = fit(digits(), every_step, checkpoint=checkpoint, **options)
        assert 0 < len(rest) < len(whole)
        assert all(map(torch.equal, rest, whole[-len(rest) :])), checkpoint


def test_batches_of_one_optimizer_step_vary_apart():
    data = digits()
    changed = fit(data, accumulate_grad_batches=4, max_epochs=1)
    plain = [x for x, _ in data.train_dataloader()]
    assert len(plain) == 4
    for batch, (x, seen) in enumerate(zip(plain, changed, strict=True)):
        assert torch.equal(seen, data.augmentation(x, data.pixels.black, (5, 0, batch, 0)))


def test_overfitting_a_batch_repeats_it_unchanged():
    data = digits()
    batches = fit(data, overfit_batches=1)
    assert len(batches) == 2
    assert all(torch.equal(batch, data.splits.train[0][:400]) for batch in batches)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12
def test_ranks_vary_apart(tmp_path):
    data = digits(batch_size=100)

    class Writes(Diary):
        def on_train_end(self):
            torch.save(self.seen["train"], tmp_path / f"{self.global_rank}.pt")

    options = {"strategy": "ddp_fork", "devices": 2, "num_sanity_val_steps": 0, "enable_checkpointing": False}
    Trainer(**QUIET | options | {"max_epochs": 1}).fit(Writes(), data)
    for rank in range(2):
        seen = torch.load(tmp_path / f"{rank}.pt")
        loader = BatchLoader(data.splits.train, 100, shuffle=True, seed=5, rank=rank, world_size=2)
        for batch, (plain, _) in enumerate(loader):
            assert torch.equal(seen[batch], data.augmentation(plain, data.pixels.black, (5, 0, batch, rank)))


@pytest.mark.slow
def test_the_command_line_sets_it(workplace):
    keys = ["--data.augmentation.crop=1", "--data.augmentation.flip=true", "--data.augmentation.cutout=3"]
    assert main(["fit", "-c", "mlp/digits", "--trainer.max_epochs=1", *keys]) == 0
    (written,) = workplace.rglob("config.yaml")
    assert yaml.safe_load(written.read_text())["data"]["augmentation"] == {"crop": 1, "flip": True, "cutout": 3}
    assert main(["test", "-c", str(written)]) == 0
