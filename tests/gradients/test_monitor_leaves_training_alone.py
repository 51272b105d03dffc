"""Whatever a training does, its weights and its random numbers are bit for bit those of one without the monitor."""

import copy
import io
import json
from dataclasses import dataclass, field

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelPruning, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from unvanish import GradientMonitor
from unvanish.gradients import GradientRecorder

pytestmark = pytest.mark.slow

FEATURES, CLASSES, BATCHES = 5, 3, 13
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "log_every_n_steps": 1}


def layers():
    return nn.Sequential(
        nn.Linear(FEATURES, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(7, 7),
        nn.Tanh(),
        nn.Linear(7, CLASSES),
    )


class Plain(L.LightningModule):
    def __init__(self, net=None, optimizer=torch.optim.SGD):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.kind = net() if net else layers(), optimizer

    def configure_optimizers(self):
        return self.kind(self.parameters(), 0.1)

    def training_step(self, batch, batch_index):
        x, y = batch
        return F.cross_entropy(self.net(x), y)


class Keyword(nn.Module):
    """Gives its layers what they work on by name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 7), nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.second(input=self.first(input=x).tanh())


class Gan(L.LightningModule):
    """Two networks, two optimizers, manual optimization."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(2, 7), nn.ReLU(), nn.Linear(7, FEATURES))
        self.critic = nn.Sequential(nn.Linear(FEATURES, 7), nn.LeakyReLU(), nn.Linear(7, 1))

    def configure_optimizers(self):
        return [torch.optim.Adam(part.parameters(), 0.01) for part in (self.generator, self.critic)]

    def training_step(self, batch, batch_index):
        real, (for_generator, for_critic) = batch[0], self.optimizers()
        fake = self.generator(torch.randn(len(real), 2))
        self.toggle_optimizer(for_generator)
        self.manual_backward(F.softplus(-self.critic(fake)).mean())
        for_generator.step()
        for_generator.zero_grad()
        self.untoggle_optimizer(for_generator)
        self.toggle_optimizer(for_critic)
        loss = F.softplus(self.critic(fake.detach())).mean() + F.softplus(-self.critic(real)).mean()
        self.manual_backward(loss)
        self.clip_gradients(for_critic, 0.1, "norm")
        for_critic.step()
        for_critic.zero_grad()
        self.untoggle_optimizer(for_critic)


class WithoutManualBackward(Gan):
    def manual_backward(self, loss):
        loss.backward()


class Words(L.LightningModule):
    """Batches that are no tensors, and one of jagged length."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.leave = nn.Linear(FEATURES, CLASSES)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch, batch_index):
        x = batch["jagged"].values() if "jagged" in batch else torch.randn(11, FEATURES)
        return self.leave(x).square().mean()


class Copies(L.Callback):
    """Copies and saves the module at every batch, as a mean of its weights is kept by hand."""

    def __init__(self):
        self.mean = None

    def take(self, pl_module):
        net = copy.deepcopy(pl_module.net)
        net(torch.ones(11, FEATURES)).sum().backward()
        torch.save(pl_module.net, io.BytesIO())
        self.mean = copy.deepcopy(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.take(pl_module)

    def on_before_backward(self, trainer, pl_module, loss):
        self.take(pl_module)


class Raise(L.Callback):
    def __init__(self, error):
        self.error = error

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 5:
            raise self.error


def batches(model):
    if isinstance(model, Words):
        jagged = torch.nested.nested_tensor([torch.ones(2, FEATURES), torch.ones(3, FEATURES)], layout=torch.jagged)
        kinds = [{"words": ["a", "b"], "jagged": jagged}, {"words": "a"}, {"n": torch.tensor(3.0)}, {}]
        return DataLoader([kinds[i % 4] for i in range(BATCHES)], batch_size=None)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(11 * BATCHES, FEATURES, generator=generator)
    y = torch.randint(CLASSES, (len(x),), generator=generator)
    return DataLoader([*zip(x, y, strict=True)], 11)


@dataclass
class Case:
    """A training.

    Args:
        model: Makes the module.
        callbacks: Make what else calls back.
        options: Of the Trainer.
        ends: With this error.
        says: What the monitor warns of.
    """

    model: type = Plain
    callbacks: tuple = ()
    options: dict = field(default_factory=dict)
    ends: type | tuple | None = None
    says: tuple = ()


CASES = {
    "plain": Case(),
    "no logger": Case(options={"logger": False}),
    "fast_dev_run": Case(options={"fast_dev_run": 3}),
    "max_steps": Case(options={"max_steps": 4, "max_epochs": -1}),
    "clipping and accumulation": Case(options={"gradient_clip_val": 0.01, "accumulate_grad_batches": 3}),
    "bfloat16": Case(options={"precision": "bf16-mixed"}),
    "float64": Case(options={"precision": "64-true"}),
    "adam": Case(lambda: Plain(optimizer=torch.optim.Adam)),
    "lbfgs": Case(lambda: Plain(optimizer=torch.optim.LBFGS), says=("the optimizer asks again",)),
    "a training that raises": Case(callbacks=(lambda: Raise(RuntimeError("no more")),), ends=RuntimeError),
    "an interrupt": Case(callbacks=(lambda: Raise(KeyboardInterrupt()),), ends=(KeyboardInterrupt, SystemExit)),
    "a gan": Case(Gan),
    "a gan without manual_backward": Case(WithoutManualBackward),
    "copies": Case(callbacks=(Copies,)),
    "swa": Case(callbacks=(lambda: StochasticWeightAveraging(0.05, swa_epoch_start=1),), options={"max_epochs": 3}),
    "ema": Case(callbacks=(EMAWeightAveraging,)),
    "pruning": Case(callbacks=(lambda: ModelPruning("l1_unstructured", amount=0.5),), options={"max_epochs": 2}),
    "torchscript": Case(
        lambda: Plain(lambda: nn.Sequential(nn.Linear(FEATURES, 7), torch.jit.script(nn.Linear(7, CLASSES)))),
        says=("TorchScript allows no hooks",),
    ),
    "torchscript alone": Case(lambda: Plain(lambda: torch.jit.script(layers())), says=("TorchScript allows no hooks",)),
    "inputs by name": Case(lambda: Plain(Keyword)),
    "weight normalization": Case(
        lambda: Plain(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(FEATURES, CLASSES)))
    ),
    "spectral normalization": Case(
        lambda: Plain(lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(FEATURES, CLASSES)))
    ),
    "batches of anything": Case(Words),
}  # fmt: skip


def train(folder, case, *, monitor=None, is_first=True):
    """The bytes of the weights, and the random state, at the end."""
    others = [make() for make in case.callbacks]
    callbacks = [] if monitor is None else [monitor]
    model, options = case.model(), {"max_epochs": 1, **QUIET, **case.options}
    options = {"logger": CSVLogger(folder, "", "run"), "enable_checkpointing": False} | options
    trainer = L.Trainer(**options, callbacks=[*callbacks, *others] if is_first else [*others, *callbacks])
    torch.manual_seed(5)
    if case.ends:
        with pytest.raises(case.ends):
            trainer.fit(model, batches(model))
    else:
        trainer.fit(model, batches(model))
    assert not any(m._forward_hooks for m in model.modules() if not isinstance(m, torch.jit.ScriptModule))
    assert not any(o._optimizer_step_post_hooks for o in trainer.optimizers)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state(), others


def assert_the_same(one, other):
    (weights, random, callbacks), (others, its_random, its_callbacks) = one, other
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name
    assert torch.equal(random, its_random)
    for copies, its_copies in zip(callbacks, its_callbacks, strict=True):
        if isinstance(copies, Copies):
            for name, tensor in copies.mean.state_dict().items():
                assert torch.equal(tensor, its_copies.mean.state_dict()[name]), name


def ours(caplog):
    return [record.message for record in caplog.records if record.name.startswith("unvanish")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("name", CASES)
def test_the_weights_are_bit_for_bit_the_same(tmp_path, name, is_first, caplog):
    caplog.set_level("WARNING", "unvanish.gradients")
    case, monitor = CASES[name], GradientMonitor(2, flush_every_n_steps=3, verbose=False)
    if "torchscript" in name:
        train(tmp_path / "first", case)  # TorchScript rounds the first run of a process as it rounds no other
    assert_the_same(
        train(tmp_path / "with", case, monitor=monitor, is_first=is_first), train(tmp_path / "without", case)
    )
    assert monitor.report.steps
    said = ours(caplog)
    assert len(said) == len(set(said))
    assert not [message for message in said if "any more" in message or message.startswith("gradients are not")]
    for words in case.says:
        assert any(words in message for message in said), said


PLACES = [
    ("adapters.lightning.first_tensor", None),
    ("recorder.GradientRecorder.__init__", "gradients are not recorded: a fault of ours"),
    ("recorder.GradientRecorder.__enter__", "gradients are not recorded: a fault of ours"),
    ("recorder.GradientRecorder.optimizes", None),
    ("recorder.GradientRecorder.before_backward", None),
    ("recorder.GradientRecorder.before_step", None),
    ("recorder.GradientRecorder.after_step", None),
    ("recorder.GradientRecorder.flush", None),
    ("recorder.GradientRecorder.__exit__", None),
    ("Report.add", None),
    ("Report.save", "the report on the gradients is not complete: ValueError: a fault of ours"),
    ("show.pictures.picture_of", "the report on the gradients is not complete: ValueError: a fault of ours"),
    ("show.sinks.Metrics.write", "CSVLogger gets no gradients any more: ValueError: a fault of ours"),
    ("adapters.lightning.Metrics", None),
    ("adapters.lightning.ChainProbe", None),
    ("adapters.lightning.ChainProbe.chain", None),
]


@pytest.mark.parametrize(("place", "message"), PLACES)
def test_an_error_of_the_monitor_is_one_warning_and_the_training_goes_on(tmp_path, monkeypatch, caplog, place, message):
    case = Case(options={"gradient_clip_val": 0.01})
    without = train(tmp_path / "without", case)
    caplog.set_level("WARNING", "unvanish.gradients")

    def fail(*_, **__):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(f"unvanish.gradients.{place}", fail)
    assert_the_same(train(tmp_path / "with", case, monitor=GradientMonitor(2, verbose=False)), without)
    assert ours(caplog) == [message or "gradients are not recorded any more: ValueError: a fault of ours"]


def test_after_an_error_of_the_monitor_what_was_recorded_is_kept(tmp_path, monkeypatch):
    before_step = GradientRecorder.before_step

    def fail(self, step, *arguments, **keywords):
        if step == 11:
            raise ValueError("a fault of ours")
        before_step(self, step, *arguments, **keywords)

    monkeypatch.setattr(GradientRecorder, "before_step", fail)
    train(tmp_path, Case(), monitor=GradientMonitor(2, flush_every_n_steps=1, verbose=False))
    report = json.loads((tmp_path / "run" / "gradient_report.json").read_text())
    assert report["steps"] == 11
    assert report["not_measured"] == ["nothing was recorded after step 10: ValueError: a fault of ours"]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint", "ignore:Checkpoint directory .* exists")
def test_a_training_that_goes_on_from_a_checkpoint_is_the_same(tmp_path):
    found = []
    for name, callbacks in (("with", [GradientMonitor(2, verbose=False)]), ("without", [])):
        for steps, path in ((7, None), (12, tmp_path / name / "checkpoints" / "epoch=0-step=7.ckpt")):
            model = Plain()
            options = {"default_root_dir": tmp_path / name, "logger": False, "max_steps": steps}
            torch.manual_seed(5)
            L.Trainer(**QUIET, **options, callbacks=callbacks).fit(model, batches(model), ckpt_path=path)
        found.append((model.state_dict(), torch.get_rng_state(), []))
        if callbacks:
            report = callbacks[0].report
            assert (report.steps, report.first[0].step, report.last_step) == (12, 0, 11)
    assert_the_same(*found)
