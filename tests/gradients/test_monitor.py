import copy
import json
import math
from functools import partial

import lightning as L
import pytest
import torch
from autograd_twin import Twin
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unvanish import MLP, GradientMonitor, Optimizer, Training
from unvanish.data import BatchLoader

SAMPLES, INPUTS, CLASSES, LAYERS = 53, 5, 3, ["hidden.0.linear", "hidden.1.linear", "output"]
TAGS = dict(zip(LAYERS, ["hidden.0", "hidden.1", "output"], strict=True))
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def network(normalization="none", **options):
    torch.manual_seed(0)
    return MLP((INPUTS,), CLASSES, [7, 7], normalization=normalization, training=Training(**options))


def loader():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SAMPLES, INPUTS, generator=generator)
    return BatchLoader((x, torch.randint(CLASSES, (SAMPLES,), generator=generator)), 11, shuffle=True)


ACTIVATIONS = {
    "hidden.0.linear": ("relu", "hidden.0.activation"),
    "hidden.1.linear": ("relu", "hidden.1.activation"),
    "output": ("identity", lambda z: z),
}


def twin(model, micro_batches):
    return Twin(copy.deepcopy(model), micro_batches).values(ACTIVATIONS)


class Diary(L.Callback):
    """Keeps the weights and the batch that each training step begins with."""

    def __init__(self):
        self.steps = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        weights = {name: value.clone() for name, value in pl_module.state_dict().items()}
        self.steps.append((weights, batch))


def fit(folder, model, monitor, *callbacks, **options):
    options = {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1} | options
    logger = TensorBoardLogger(folder, "", "run", default_hp_metric=False)
    trainer = L.Trainer(**QUIET, **options, logger=logger, callbacks=[monitor, *callbacks])
    trainer.fit(model, loader(), loader() if isinstance(model, MLP) else None)
    return trainer


def series(folder):
    """Every scalar of the event file: tag -> {step: value}."""
    events = EventAccumulator(str(folder / "run"), size_guidance={"scalars": 0}).Reload()
    found = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    deltas = {tag: points for tag, points in found.items() if tag.startswith("delta_log10/")}
    return found | {
        tag.replace("log10", "rms"): {step: 10**log for step, log in points.items()} for tag, points in deltas.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"gradient_clip_val": 1e-3}])
def test_the_event_file_holds_plain_autograd_s_values_for_every_layer_and_step(tmp_path, options, normalization):
    diary = Diary()
    trainer = fit(tmp_path, network(normalization), GradientMonitor(1, verbose=False), diary, max_epochs=3, **options)
    found = series(tmp_path)
    micro_batches = options.get("accumulate_grad_batches", 1)
    steps = [diary.steps[i : min(i + micro_batches, e + 5)] for e in (0, 5, 10) for i in range(e, e + 5, micro_batches)]
    assert trainer.global_step == len(steps)
    for step, parts in enumerate(steps):
        model = network(normalization)
        model.load_state_dict(parts[0][0])
        # At an epoch's end fewer micro-batches may be left; Lightning still divides by their full number.
        expected = twin(model, [batch for _, batch in parts])
        share = len(parts) / micro_batches
        for quantity, factor in (("gradient_norm", share), ("delta_rms", share), ("activation_std", 1)):
            for layer in LAYERS:
                value = found[f"{quantity}/{TAGS[layer]}"][step]
                assert value == pytest.approx(factor * expected[quantity][layer], rel=1e-5), (quantity, layer, step)


def test_after_ten_steps_everything_is_measured_at_every_nth_and_in_between_gradient_norms_are(tmp_path):
    fit(tmp_path, network(optimizer=Optimizer("sgd", 0.1)), GradientMonitor(4, verbose=False), max_epochs=4)
    found = series(tmp_path)
    full = [*range(10), 12, 16]
    for name in TAGS.values():
        for quantity in ("gradient_norm", "delta_log10", "update_ratio", "activation_std"):
            assert list(found[f"{quantity}/{name}"]) == full, quantity
        assert list(found[f"gradient_cosine/{name}"]) == sorted({step + 1 for step in full})
    for name in list(TAGS.values())[:2]:
        assert list(found[f"dead_share/{name}"]) == full
    assert list(found["gradient/norm"]) == list(range(20))
    logs, factors = found["Overview/first_over_last_log10"], found["gradient/decay_per_layer"]
    for step in full:
        assert factors[step] ** 2 == pytest.approx(10 ** logs[step], rel=1e-5)


def test_one_event_holds_all_values_of_a_step(tmp_path):
    fit(tmp_path, network(), GradientMonitor(1, verbose=False))
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith(("gradient_norm", "delta", "activation"))]
    times = {tag: [event.wall_time for event in events.Scalars(tag)] for tag in tags}
    assert len(tags) == 4 * len(LAYERS)
    assert all(of_tag == times[tags[0]] for of_tag in times.values())


def test_the_verdict_a_heat_map_histograms_and_a_chart_of_all_layers_are_in_the_event_file(tmp_path):
    fit(tmp_path, network(), GradientMonitor(verbose=False), max_epochs=3)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "tensors": 0}).Reload()
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("gradient/verdict")]
    assert [text.split(":")[0] for text in texts] == ["**healthy** after 10 steps", "**healthy** after 15 steps"]
    assert [image.step for image in events.Images("gradient/delta_heat_map")] == [14]
    assert {f"gradient_log10/{name}" for name in TAGS.values()} <= set(events.Tags()["histograms"])
    assert "custom_scalars__config__" in events.Tags()["tensors"]


def test_the_verdict_is_printed_after_ten_steps_and_at_the_end_and_kept_as_json(tmp_path, capsys):
    monitor = GradientMonitor()
    fit(tmp_path, network(), monitor, max_epochs=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["gradients after 10 steps", "gradients after 15 steps"]
    report = json.loads((tmp_path / "run" / "gradient_report.json").read_text())
    assert report["verdict"] == monitor.report.end.name == "healthy"
    assert [layer["name"] for layer in report["layers"]] == LAYERS
    assert report["steps"] == 15
    assert report["theory"]["delta_norm"].keys() == set(LAYERS)
    assert report["not_measured"] == []
    assert (tmp_path / "run" / "gradient_report.png").read_bytes().startswith(b"\x89PNG")


class Told:
    """Keeps after how many steps a sink is told the verdict."""

    def __init__(self):
        self.steps = []

    def write(self, record, summary):
        pass

    def tell(self, report):
        self.steps.append(report.steps)

    def close(self, report):
        pass


class SavedAtEachStep(L.Callback):
    def on_train_batch_end(self, trainer, *rest):
        trainer.callbacks[0].state_dict()


@pytest.mark.parametrize(("flush", "callbacks"), [(100, []), (3, []), (100, [SavedAtEachStep()])])
def test_when_a_run_is_judged_depends_on_its_steps_alone(tmp_path, flush, callbacks):
    told = Told()
    monitor = GradientMonitor(flush_every_n_steps=flush, verbose=False, sinks=[told])
    fit(tmp_path, network(), monitor, *callbacks, max_epochs=9)
    assert told.steps == [10, 40, 45]


@pytest.mark.slow
def test_a_deep_sigmoid_net_is_judged_vanishing_and_healthy_with_batchnorm_in_train_mode(tmp_path):
    statuses = {}
    for normalization in ("none", "batch"):
        torch.manual_seed(0)
        model = MLP((INPUTS,), CLASSES, 32, 20, "sigmoid", "default", normalization)
        monitor = GradientMonitor(verbose=False)
        fit(tmp_path / normalization, model, monitor)
        statuses[normalization] = monitor.report.start
    assert statuses["none"].name == "vanishing"
    assert statuses["none"].first_over_last < 1e-8
    assert statuses["batch"].name == "healthy"


def test_training_is_the_same_with_and_without_the_monitor(tmp_path):
    results = []
    for monitor in (GradientMonitor(verbose=False), L.Callback()):
        model = network("batch")
        fit(tmp_path / type(monitor).__name__, model, monitor)
        results.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*results)


def test_a_run_that_dies_still_leaves_its_report(tmp_path):
    class Crash(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 3:
                raise RuntimeError("no more")

    model = network()
    with pytest.raises(RuntimeError, match="no more"):
        fit(tmp_path, model, GradientMonitor(verbose=False), Crash())
    assert json.loads((tmp_path / "run" / "gradient_report.json").read_text())["steps"] == 3
    assert not any(module._forward_hooks for module in model.modules())


def test_a_nan_is_written_as_nan(tmp_path):
    class Poison(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                with torch.no_grad():
                    pl_module.output.weight.fill_(math.nan)

    monitor = GradientMonitor(verbose=False)
    fit(tmp_path, network(), monitor, Poison())
    assert math.isnan(series(tmp_path)["gradient_norm/hidden.0"][2])
    assert monitor.report.end.name == "nan"


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}])
def test_without_a_logger_no_file_is_written(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    monitor = GradientMonitor(verbose=False)
    L.Trainer(**QUIET, max_epochs=1, callbacks=[monitor], **options).fit(network(), loader(), loader())
    assert monitor.report.steps
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("option", ["every_n_steps", "histogram_every_n_steps", "flush_every_n_steps"])
def test_intervals_below_one_are_refused(tmp_path, option):
    with pytest.raises(ValueError, match=f"{option} is 0; it must be at least 1"):
        fit(tmp_path, network(), GradientMonitor(**{option: 0}))


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_gradient_scaler_the_values_are_the_true_ones_and_overflow_is_no_verdict(tmp_path, fused):
    model = network(optimizer=Optimizer("adam", options={"fused": fused}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    monitor = GradientMonitor(verbose=False)
    diary = Diary()
    fit(tmp_path, model, monitor, diary, max_epochs=4, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    found = series(tmp_path)["gradient_norm/output"]
    overflowed = [step for step, value in found.items() if not math.isfinite(value)]
    assert overflowed
    assert monitor.report.end.name == monitor.report.start.name == "healthy"
    first = len(overflowed)  # the weights have not moved yet
    twin_model = network()
    twin_model.load_state_dict(before)
    expected = twin(twin_model, [diary.steps[first][1]])
    (value,) = [v for v in found.values() if math.isfinite(v)][:1]
    assert value == pytest.approx(expected["gradient_norm"]["output"], rel=2e-2)  # fp16 has three digits


def test_a_second_fit_of_a_finished_run_leaves_no_hook_behind(tmp_path):
    model = network()
    trainer = fit(tmp_path, model, GradientMonitor(verbose=False), max_epochs=1)
    trainer.fit(model, loader(), loader())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_flush_at_every_step_writes_every_step(tmp_path):
    monitor = GradientMonitor(flush_every_n_steps=1, verbose=False)
    written = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            written.append(monitor.report.steps)

    fit(tmp_path, network(), monitor, Watch())
    assert written == list(range(1, 11))


class TwoOptimizers(L.LightningModule):
    """Manual optimization: two halves of a network, each with an optimizer of its own, take turns."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = network()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.net.hidden, self.net.output)]

    def training_step(self, batch, batch_index):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(torch.nn.functional.cross_entropy(self.net(x), y))
            optimizer.step()


def test_manual_optimization_with_two_optimizers_measures_each_s_own_weights(tmp_path):
    monitor = GradientMonitor(1, verbose=False)
    diary = Diary()
    fit(tmp_path, TwoOptimizers(), monitor, diary)
    found = series(tmp_path)
    assert list(found["gradient_norm/output"]) == list(range(1, 20, 2))
    for name in ("hidden.0", "hidden.1"):
        assert list(found[f"gradient_norm/{name}"]) == list(found[f"update_ratio/{name}"]) == list(range(0, 20, 2))
    weights, batch = diary.steps[3]
    model = network()
    model.load_state_dict({name.removeprefix("net."): value for name, value in weights.items()})
    expected = twin(model, [batch])
    for layer, tag in list(TAGS.items())[:2]:
        assert found[f"gradient_norm/{tag}"][6] == pytest.approx(expected["gradient_norm"][layer], rel=1e-5)
        assert found[f"delta_rms/{tag}"][6] == pytest.approx(expected["delta_rms"][layer], rel=1e-5)


def test_bf16_is_measured_as_it_is(tmp_path):
    diary = Diary()
    fit(tmp_path, network(), GradientMonitor(1, verbose=False), diary, precision="bf16-mixed")
    found = series(tmp_path)
    model = network()
    model.load_state_dict(diary.steps[4][0])
    expected = twin(model, [diary.steps[4][1]])
    for layer, tag in TAGS.items():
        assert found[f"delta_rms/{tag}"][4] == pytest.approx(expected["delta_rms"][layer], rel=3e-2)  # 8 bits


def test_clipped_norms_stand_beside_the_unclipped_ones(tmp_path):
    fit(tmp_path, network(), GradientMonitor(1, verbose=False), gradient_clip_val=1e-3)
    found = series(tmp_path)
    for step in range(10):
        assert found["gradient/norm"][step] > 0.1
        assert 0.5e-3 < found["gradient/norm_clipped"][step] <= 1e-3  # biases have their share of the norm as well


@pytest.mark.slow
def test_accumulation_gives_the_gradient_noise_scale(tmp_path):
    monitor = GradientMonitor(1, verbose=False)
    at_rest = network(optimizer=Optimizer("sgd", 1e-9))  # so that the gradient does not get lost in its noise
    fit(tmp_path, at_rest, monitor, accumulate_grad_batches=2, max_epochs=40)
    found = series(tmp_path)["gradient/noise_scale"]
    assert monitor.report.noise_scale > 0
    assert list(found.values())[-1] == pytest.approx(monitor.report.noise_scale, rel=1e-5)


class Totals:
    """A sink that keeps the totals of each step."""

    def __init__(self):
        self.steps = []

    def write(self, record, sums):
        self.steps.append(record.totals)

    def tell(self, report): ...

    def close(self, report): ...


@pytest.mark.parametrize(("micro_batches", "samples"), [(4, [44, None]), (5, [None])])  # of 11, 11, 11, 11 and 9
def test_a_step_of_micro_batches_of_several_sizes_has_no_noise_scale(tmp_path, micro_batches, samples):
    kept = Totals()
    monitor = GradientMonitor(1, verbose=False, sinks=[kept])
    fit(tmp_path, network(), monitor, accumulate_grad_batches=micro_batches, max_epochs=1)
    assert [totals.get("noise_batch") for totals in kept.steps] == samples


def test_a_network_without_weights_is_trained_all_the_same_and_the_monitor_says_why_it_is_silent(tmp_path, caplog):
    class Scale(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def training_step(self, batch, batch_index):
            return (self.scale * batch[0]).square().mean()

    monitor = GradientMonitor()
    trainer = fit(tmp_path, Scale(), monitor)
    assert trainer.global_step == 10
    (message,) = [r.message for r in caplog.records if r.name.startswith("unvanish")]
    assert message == "gradients are not recorded: Scale has no weight, so there is no gradient to record"


def test_what_is_not_measured_is_said_once_and_is_in_the_report(tmp_path, caplog):
    class Reads(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.gru = torch.nn.GRU(1, 7, batch_first=True, bidirectional=True)
            self.leave = torch.nn.Linear(14, CLASSES)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def training_step(self, batch, batch_index):
            x, y = batch
            return torch.nn.functional.cross_entropy(self.leave(self.gru(x.unsqueeze(-1))[0][:, -1]), y)

    fit(tmp_path, Reads(), GradientMonitor(flush_every_n_steps=3, verbose=False))
    note = "dL/dh_t of gru was not measured: it is bidirectional"
    assert [r.message for r in caplog.records if r.name.startswith("unvanish")] == [note]
    assert json.loads((tmp_path / "run" / "gradient_report.json").read_text())["not_measured"] == [note]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_module_is_measured_as_it_is_uncompiled(tmp_path):
    found = []
    for wrap in (partial(torch.compile, backend="aot_eager"), lambda model: model):
        torch.manual_seed(0)
        model = wrap(torch.nn.Sequential(torch.nn.Linear(INPUTS, 7), torch.nn.Tanh(), torch.nn.Linear(7, CLASSES)))

        class Step(L.LightningModule):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

            def training_step(self, batch, batch_index):
                x, y = batch
                return torch.nn.functional.cross_entropy(self.model(x), y)

        monitor = GradientMonitor(every_n_steps=3, verbose=False)
        fit(tmp_path / str(len(found)), Step(model), monitor, max_epochs=3)
        found.append(monitor.report.as_dict())
    compiled, eager = found
    for ours, theirs in zip(compiled["layers"], eager["layers"], strict=True):
        for quantity in ("delta_norm", "gradient_norm", "update_ratio"):
            assert ours[quantity] == pytest.approx(theirs[quantity], rel=1e-5), quantity
    assert any("activation of" in note and "compiled" in note for note in compiled["not_measured"])
    assert not eager["not_measured"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_the_samples_of_a_batch_of_nested_tensors_are_counted(layout):
    monitor = GradientMonitor()
    monitor._batch_sizes = set()
    monitor._count([torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)])
    assert monitor._batch_sizes == {2}
