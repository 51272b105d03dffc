"""A recorder beside every family on the meta device, which has no numbers to wait for.

Whatever brings a number to the host, or mixes devices, raises there: ``.item()``, ``.tolist()``, ``.cpu()``, ``bool``.
What does not: a copy from the host, for which a GPU may wait; test_recorder_cuda.py and benchmarks/gpu see that.
"""

from itertools import cycle

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from unvanish import CNN, MLP, CompactCNN, GradientRecorder, Recurrent, Training, Transformer, Wrap
from unvanish.data import BatchLoader
from unvanish.training import Loss, Optimizer, Regularization, Schedule

BATCH, ROWS = 5, 31
#: Steps, and a cadence in which every kind of step comes twice; the default one needs 45.
STEPS, CADENCE = 7, {"every_n_steps": 3, "first_steps": 2, "histogram_every_n_steps": 6}
OUTPUTS = {"binary": 1, "multiclass": 3, "regression": 2, "next_token": 7}
WORDS, PADDING = 7, 2
#: Those that saturate, those that die, and those of which neither is asked.
ACTIVATIONS = ("sigmoid", "tanh", "relu", "gelu", "identity")
ROW, IMAGE, CLIP, SERIES, TOKENS = (11,), (2, 8, 8), (2, 4, 4, 4), (11, 3), (11,)
ALWAYS = {"gradient_norm", "gradient_rms"}
ON_FULL_STEPS = {"delta_norm", "delta_rms", "gradient_norm_clipped", "update_ratio"}


def network(kind, shape, task="multiclass", *, tokens=None, **options):
    """What builds a small network, and what its batches look like: ``tokens`` is None, or the padding's index."""
    if tokens is not None:
        options |= {"vocabulary_size": WORDS} | ({} if tokens < 0 else {"padding_index": tokens})
    return kind, shape, task, tokens is not None, options


def mlp(**options):
    return network(MLP, ROW, **{"hidden_sizes": 13, "num_layers": 3} | options)


def cnn(shape=IMAGE, **options):
    return network(CNN, shape, **{"num_layers": 8, "width": 3} | options)


def compact(shape=IMAGE, **options):
    return network(CompactCNN, shape, **{"channels": [3, 5]} | options)


def recurrent(shape=SERIES, **options):
    return network(Recurrent, shape, **{"hidden_size": 13, "num_layers": 2} | options)


def transformer(shape=SERIES, **options):
    return network(Transformer, shape, **{"embedding_dim": 12, "num_layers": 2, "num_heads": 3} | options)


DECODER = {"shape": TOKENS, "task": "next_token", "tokens": -1}
NETWORKS = {
    **{f"mlp, {name}": mlp(activation=name) for name in ACTIVATIONS},
    **{f"mlp, norm {name}": mlp(normalization=name) for name in ("batch", "layer")},
    "mlp, residual": mlp(residual=True, normalization="batch"),
    **{f"mlp, {task}": mlp(task=task) for task in ("binary", "regression")},
    "cnn": cnn(),
    **{f"cnn, plain, norm {name}": cnn(residual=False, normalization=name) for name in ("none", "group")},
    "cnn, preactivation": cnn(preactivation=True),
    "cnn, clips, binary": cnn(CLIP, task="binary"),
    **{f"compact, {name}": compact(normalization=name) for name in ("batch", "group")},
    "compact, residual, regression": compact(channels=[3, 3], residual=True, task="regression"),
    "compact, clips": compact(CLIP, activation="tanh"),
    **{f"recurrent, {cell}": recurrent(cell=cell) for cell in ("rnn", "lstm", "gru")},
    "recurrent, relu, layer norm, residual": recurrent(
        cell="rnn", activation="relu", normalization="layer", residual=True, task="regression"
    ),
    "recurrent, bidirectional, binary": recurrent(bidirectional=True, task="binary"),
    "recurrent, padded tokens": recurrent(TOKENS, tokens=PADDING),
    "recurrent, bidirectional, padded tokens": recurrent(
        TOKENS, tokens=PADDING, bidirectional=True, cell="gru", num_layers=1
    ),
    "recurrent, next token": recurrent(**DECODER),
    "transformer": transformer(),
    **{f"transformer, {name} positions": transformer(**DECODER, positions=name) for name in ("sinusoidal", "rotary")},
    "transformer, tied": transformer(**DECODER, tie_weights=True),
    "transformer, vision, binary": transformer(IMAGE, task="binary", patch_size=4),
    "transformer, padded tokens": transformer(TOKENS, tokens=PADDING),
    "transformer, norm last": transformer(norm_first=False, task="regression"),
    "transformer, no norm": transformer(normalization="none"),
    "transformer, plain": transformer(residual=False),
    "wrap, resnet18": network(Wrap, (1, 16, 16), module="torchvision.models.resnet18"),
}
OPTIMIZERS = {
    "sgd": Optimizer("sgd"),
    "nesterov": Optimizer("sgd", options={"momentum": 0.9, "nesterov": True}),
    "rmsprop": Optimizer("rmsprop", options={"momentum": 0.9, "centered": True}),
    "adam": Optimizer("adam", options={"amsgrad": True}),
    "adamw": Optimizer("adamw"),
    "muon": Optimizer("muon"),
    **{
        f"{name}, foreach {foreach}": Optimizer(name, options={"foreach": foreach})
        for name in ("sgd", "rmsprop", "adam", "adamw")
        for foreach in (True, False)
    },
    "nesterov, foreach": Optimizer("sgd", options={"momentum": 0.9, "nesterov": True, "foreach": True}),
    **{name: Optimizer(f"torch.optim.{name}") for name in ("Adadelta", "Adagrad", "Adamax", "NAdam", "RAdam", "Rprop")},
}
LOSSES = {
    "binary": (Loss(), Loss("focal")),
    "multiclass": (Loss(), Loss("focal")),
    "regression": (Loss(), Loss("mae"), Loss("huber")),
    "next_token": (Loss(), Loss("focal")),
}


class ToHost(TorchFunctionMode):
    """Brings ones from the meta device, and counts how often."""

    def __init__(self):
        super().__init__()
        self.times = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in ("tolist", "cpu", "item") and args[0].device.type == "meta":
            self.times += 1
            args = (torch.ones(args[0].shape, dtype=args[0].dtype), *args[1:])
        return func(*args, **(kwargs or {}))


def build(case, training=None):
    kind, shape, task, is_text, options = case
    torch.manual_seed(0)
    model = kind(shape, OUTPUTS[task], **options, training=training or Training(task=task))
    x = torch.randint(WORDS, (ROWS, *shape)) if is_text else torch.randn(ROWS, *shape)
    y = {
        "binary": torch.arange(ROWS) % 2.0,
        "regression": torch.randn(ROWS, OUTPUTS["regression"]),
        "next_token": torch.randint(WORDS, (ROWS, *shape)),
    }.get(task, torch.arange(ROWS) % 3)
    return model, (x, y)


def optimizer_of(model):
    found = model.configure_optimizers()
    return found["optimizer"] if isinstance(found, dict) else found


def train(model, data, device, steps=STEPS, **cadence):
    """Steps of the model's own training, without a flush."""
    model = model.to(device)
    if model.hparams.get("tie_weights"):
        model.embedding.weight = model.output.weight  # on its way to the meta device each becomes a new tensor
    batches = BatchLoader(tuple(tensor.to(device) for tensor in data), BATCH, shuffle=True)
    optimizer, regularization = optimizer_of(model), model.settings.regularization
    weights = [weight for weight in model.parameters() if weight.dim() >= 2]
    recorder = GradientRecorder(model, **cadence or CADENCE)
    with recorder:
        for step, (x, y) in zip(range(steps), (batch for _ in cycle([0]) for batch in batches), strict=False):
            optimizer.zero_grad()
            loss = model.training_loss(model(x), y)
            if regularization.has_penalty:
                loss = loss + regularization.penalty(weights)
            loss.backward()
            recorder.before_step(step, batch_size=len(x))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            recorder.after_step()
        assert recorder.pending_steps == steps
    return recorder


def layout(records):
    """Which quantities were measured of which layers, step by step."""
    return [
        (
            record.step,
            {quantity: list(layers) for quantity, layers in record.values.items()},
            {name: list(times) for name, times in record.through_time.items()},
            {name: len(counts) for name, counts in record.histograms.items()},
            sorted(record.totals),
        )
        for record in records
    ]


def same_on_meta(case, steps, is_full, **cadence):
    """Trains on both devices and compares what was measured; the records of the meta device, whose numbers are 1."""
    on_cpu, on_meta = (train(*build(case), device, steps, **cadence) for device in ("cpu", "meta"))
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        on_meta.flush()
    with ToHost() as to_host:
        records = on_meta.flush()
    assert to_host.times == 1
    assert layout(records) == layout(on_cpu.flush())
    assert on_meta.notes == on_cpu.notes
    assert [record.step for record in records if "delta_norm" in record.values] == is_full
    assert [record.step for record in records if "update_ratio" in record.values] == is_full
    assert [record.step for record in records if "gradient_cosine" in record.values] == [
        step + 1 for step in is_full if step + 1 < steps
    ]
    for record in records:
        assert set(record.values) >= (ALWAYS | ON_FULL_STEPS if record.step in is_full else ALWAYS), record.step
    return records


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_brings_a_number_to_the_host_before_the_flush_and_records_what_it_does_on_a_cpu(name):
    records = same_on_meta(NETWORKS[name], STEPS, [0, 1, 3, 6])
    assert [record.step for record in records if record.histograms] == [0, 6]
    layers = [m for m in build(NETWORKS[name])[0].modules() if any(p.dim() >= 2 for p in m.parameters(recurse=False))]
    is_tied = NETWORKS[name][4].get("tie_weights", False)  # a weight of two layers is shown once
    for record in records:
        assert len(record.values["gradient_norm"]) == len(layers) - is_tied
        assert len(record.values.get("delta_norm", layers)) == len(layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp, relu", "compact, batch"])
def test_nor_does_it_with_the_default_cadence(name):
    cadence = {"every_n_steps": 20, "first_steps": 10, "histogram_every_n_steps": 100}
    records = same_on_meta(NETWORKS[name], 45, [*range(10), 20, 40], **cadence)
    assert [record.step for record in records if record.histograms] == [0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name"),
    [*(("mlp, relu", name) for name in OPTIMIZERS), ("recurrent, rnn", "adam"), ("recurrent, rnn", "muon")],
)
def test_no_optimizer_lets_the_recorder_wait(family, name):
    kind, shape, task, is_text, options = NETWORKS[family]
    decay = 0.1 if name in ("adamw", "muon") else 0.0
    training = Training(task, optimizer=OPTIMIZERS[name], regularization=Regularization(weight_decay=decay))
    recorder = train(*build((kind, shape, task, is_text, options), training), "meta")
    with ToHost():
        records = recorder.flush()
    assert [record.step for record in records if "update_ratio" in record.values] == [0, 1, 3, 6]
    assert all(set(record.values["gradient_norm"]) == set(recorder.layers) for record in records)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "loss", "fix"),
    [
        *((task, loss, "none") for task, losses in LOSSES.items() for loss in losses),
        *(("multiclass", Loss(), fix) for fix in ("dropout", "l1, l2", "max_norm", "schedule")),
    ],
    ids=str,
)
def test_no_loss_and_no_regularization_does(task, loss, fix):
    regularization = {
        "dropout": Regularization(dropout=0.25),
        "l1, l2": Regularization(l1=1e-3, l2=1e-3),
        "max_norm": Regularization(max_norm=2.0),
    }.get(fix, Regularization())
    schedule = Schedule("one_cycle") if fix == "schedule" else Schedule()
    training = Training(task, loss, regularization, schedule=schedule)
    case = transformer(**DECODER) if task == "next_token" else mlp(task=task)
    recorder = train(*build(case, training), "meta")
    with ToHost():
        assert len(recorder.flush()) == STEPS


class Looks(nn.Module):
    """A network one of whose hooks does to its output what a recorder must not."""

    def __init__(self, look):
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 5), nn.Linear(5, 3)
        self.look = look
        self.enter.register_forward_hook(self.see)

    def see(self, module, inputs, output):
        self.look(output.detach())

    def forward(self, x):
        return self.leave(self.enter(x).relu())


@pytest.mark.parametrize(
    "look",
    [
        lambda z: z.sum().item(),
        lambda z: z.tolist(),
        lambda z: bool((z > 0).any()),
        lambda z: z.cpu(),
        lambda z: z[z > 0],
        lambda z: torch.stack([z.sum(), torch.ones(())]),
    ],
    ids=["item", "tolist", "bool", "cpu", "selection", "two devices"],
)
def test_a_hook_that_waits_is_seen(look):
    model = Looks(look).to("meta")
    with GradientRecorder(model), pytest.raises((RuntimeError, NotImplementedError)):
        model(torch.ones(2, 3, device="meta"))
