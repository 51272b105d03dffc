import pytest
import torch
from build import build
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from unvanish.data import BatchLoader, Tabular

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12

SAMPLES = 23
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Diary(LightningModule):
    """Writes down which samples it is given."""

    def __init__(self, folder=None):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.trained, self.validated, self.folder = [], [], folder

    def training_step(self, batch, _):
        self.trained.append((self.trainer.current_epoch, batch[0][:, 0].tolist()))
        return self.layer(batch[0][:, :1]).mean()

    def validation_step(self, batch, _):
        self.validated += batch[0][:, 0].tolist()

    def on_train_end(self):
        if self.folder is not None:
            torch.save((self.trained, self.validated), self.folder / f"{self.global_rank}.pt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def sequence(samples=SAMPLES):
    return torch.arange(samples)[:, None].float(), torch.arange(samples)


def passes(loader, count=1):
    return [[batch[-1].tolist() for batch in loader] for _ in range(count)]


def flat(batches):
    return [sample for batch in batches for sample in batch]


def fit(folder, checkpoint=None, **options):
    model, options = Diary(), {"max_epochs": 3} | QUIET | options
    every_step = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    loaders = BatchLoader(sequence(), 5, shuffle=True, seed=7), BatchLoader(sequence(3), 2)
    Trainer(callbacks=[every_step], **options).fit(model, *loaders, ckpt_path=checkpoint, weights_only=True)
    return model.trained


def test_evaluation_keeps_the_order_and_the_last_single_sample():
    assert passes(BatchLoader(sequence(11), 5)) == [[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10]]]


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [(23, 5, [5, 5, 5, 5, 3]), (11, 5, [5, 6]), (10, 5, [5, 5]), (6, 5, [6]), (3, 1, [1, 1, 1]), (1, 5, [1])],
)
def test_training_drops_nothing_and_joins_a_last_single_sample(samples, batch_size, sizes):
    loader = BatchLoader(sequence(samples), batch_size, shuffle=True)
    (batches,) = passes(loader)
    assert [len(batch) for batch in batches] == sizes
    assert len(loader) == len(sizes)
    assert sorted(flat(batches)) == list(range(samples))


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second = passes(BatchLoader(sequence(), 5, shuffle=True, seed=7), 2)
    (other_seed,) = passes(BatchLoader(sequence(), 5, shuffle=True, seed=8))
    assert len({tuple(flat(order)) for order in (first, second, other_seed)}) == 3
    again = BatchLoader(sequence(), 3, shuffle=True, seed=7)
    again.set_epoch(1)
    assert flat(passes(again)[0]) == flat(second)


def test_x_and_y_stay_together():
    x, y = next(iter(BatchLoader(sequence(), 5, shuffle=True)))
    assert x[:, 0].tolist() == y.tolist()


@pytest.mark.parametrize("world_size", [2, 3, 29])
def test_ranks_train_on_equally_many_samples_padded_by_the_beginning(world_size):
    whole = flat(passes(BatchLoader(sequence(), 5, shuffle=True))[0])
    ranks = [
        flat(passes(BatchLoader(sequence(), 5, shuffle=True, rank=rank, world_size=world_size))[0])
        for rank in range(world_size)
    ]
    padded = whole + whole[: -SAMPLES % world_size]
    assert ranks == [padded[rank::world_size] for rank in range(world_size)]


def test_ranks_evaluate_each_sample_once():
    ranks = [flat(passes(BatchLoader(sequence(), 5, rank=rank, world_size=3))[0]) for rank in range(3)]
    assert ranks == [list(range(rank, SAMPLES, 3)) for rank in range(3)]


@pytest.mark.parametrize("taken", range(11))
def test_a_loaded_position_continues_where_the_saved_one_was(taken):
    uninterrupted = [batch for one_pass in passes(BatchLoader(sequence(), 5, shuffle=True), 2) for batch in one_pass]
    loader = BatchLoader(sequence(), 5, shuffle=True)
    iterator = (batch for _ in range(2) for batch in loader)
    for _ in range(taken):
        next(iterator)
    assert loader.state_dict() == {"epoch": taken // 5, "batch": taken % 5}
    resumed = BatchLoader(sequence(), 5, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(taken // 5)
    rest = [batch for one_pass in passes(resumed, 2) for batch in one_pass]
    assert rest[: 10 - taken] == uninterrupted[taken:]


def test_a_broken_off_pass_starts_afresh():
    loader = BatchLoader(sequence(), 5)
    first = [batch[1].tolist() for batch, _ in zip(loader, range(2), strict=False)]
    assert passes(loader)[0][:2] == first


def test_tensors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"the same length, found \[3, 2\]"):
        BatchLoader((torch.zeros(3), torch.zeros(2)), 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 3}, {"val_check_interval": 2}, {"max_steps": 12}])
def test_a_resumed_fit_sees_the_batches_of_an_uninterrupted_one(tmp_path, options):
    uninterrupted = fit(tmp_path, **options)
    first_of_epoch = {epoch: tuple(batch) for epoch, batch in reversed(uninterrupted)}
    assert len(set(first_of_epoch.values())) == 3
    for step in range(1, len(uninterrupted)):
        assert fit(tmp_path, tmp_path / f"step={step}.ckpt", **options) == uninterrupted[step:], step


def test_overfitting_a_batch_repeats_it():
    data, model = build(Tabular, "iris"), Diary()
    Trainer(overfit_batches=1, max_epochs=3, enable_checkpointing=False, **QUIET).fit(model, data)
    assert len({tuple(batch) for _, batch in model.trained}) == 1


def test_two_real_ranks_share_the_samples(tmp_path):
    rows = "".join(f"{row},{7 * row % 35}\n" for row in range(35))
    (tmp_path / "rows.csv").write_text(f"x,y\n{rows}")
    data = build(Tabular, path=str(tmp_path / "rows.csv"), target="y", batch_size=5)
    options = {"strategy": "ddp_fork", "devices": 2, "max_epochs": 2, "num_sanity_val_steps": 0}
    Trainer(enable_checkpointing=False, **options, **QUIET).fit(Diary(tmp_path), data)

    train, validation = data.splits.train[0][:, 0], data.splits.validation[0][:, 0]
    assert (len(train), len(validation)) == (23, 5)
    orders = [flat(order) for order in passes(BatchLoader((train,), 5, shuffle=True), 2)]
    for rank in range(2):
        trained, validated = torch.load(tmp_path / f"{rank}.pt")
        for epoch, order in enumerate(orders):
            assert flat(batch for when, batch in trained if when == epoch) == [*order, order[0]][rank::2]
        assert validated == validation[rank::2].tolist() * 2
