import copy
import gc
import json
import os
import socket
import subprocess
import sys
from collections import defaultdict

import pytest
import torch
from autograd_twin import layers_of, root

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="the extra 'test' brings it")
pytest.importorskip("accelerate", reason="the extra 'test' brings it")

from unvanish.gradients import GradientCallback, GradientRecorder  # noqa: E402

pytestmark = pytest.mark.slow

WORDS, TIMES, BATCH, SAMPLES, CLASSES = 31, 11, 5, 37, 3
TWO_STEPS = {"max_steps": 2, "max_grad_norm": 0}


def gpt2():
    torch.manual_seed(0)
    sizes = {"n_positions": 13, "n_embd": 12, "n_layer": 2, "n_head": 3, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=WORDS, **sizes))


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 17}
    config = transformers.BertConfig(vocab_size=WORDS, max_position_embeddings=13, num_labels=CLASSES, **sizes)
    return transformers.BertForSequenceClassification(config)


def certain():
    """Without dropout, of which each process draws its own."""
    model = gpt2()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0
    return model


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def samples(model):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(WORDS, (SAMPLES, TIMES), generator=generator)
    is_classifier = hasattr(model.config, "problem_type") and not hasattr(model, "lm_head")
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator) if is_classifier else tokens
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]


class Diary(transformers.TrainerCallback):
    """Keeps what each optimizer step begins with: the weights, the random state and the micro-batches."""

    def __init__(self, model):
        self.model, self.steps = model, []
        model.register_forward_pre_hook(self.see, with_kwargs=True)

    def see(self, model, arguments, inputs):
        self.steps[-1][1].append(dict(inputs))

    def on_step_begin(self, args, state, control, **_):
        self.steps.append((copy.deepcopy(self.model.state_dict()), [], torch.get_rng_state()))


def train(folder, model, *callbacks, resume=None, **options):
    options = {"max_steps": 13, "learning_rate": 0.01, "lr_scheduler_type": "constant", "save_strategy": "no"} | options
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        report_to=[],
        logging_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=samples(model), callbacks=[*callbacks])
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def lines(folder):
    """The steps and the verdicts of the file."""
    found = [json.loads(line) for line in (folder / "gradients.jsonl").read_text().splitlines()]
    verdicts = [line for line in found if "verdict" in line]
    return {line["step"]: line for line in found if line not in verdicts}, verdicts


def plain_autograd(model, micro_batches):
    """|dL/dW| and |delta| by layer, and the norm over all parameters; delta is the gradient of an added zero."""
    layers, probes, deltas = layers_of(model), defaultdict(list), defaultdict(list)

    def see(name):
        def add_zero(module, inputs, z):
            probe = torch.zeros_like(z, requires_grad=True)
            probes[name].append(probe)
            return z + probe

        return add_zero

    handles = [model.get_submodule(name).register_forward_hook(see(name)) for name in layers]
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    for inputs in micro_batches:
        probes.clear()
        loss = model(**inputs).loss
        loss = loss if "num_items_in_batch" in inputs else loss / len(micro_batches)
        names = [name for name, found in probes.items() for _ in found]
        found = torch.autograd.grad(loss, [*parameters, *(p for f in probes.values() for p in f)], allow_unused=True)
        total = [t if g is None else t + g for t, g in zip(total, found, strict=False)]
        for name, delta in zip(names, found[len(parameters) :], strict=True):
            deltas[name].append(delta)
    for handle in handles:
        handle.remove()
    gradients = {id(p): g for p, g in zip(parameters, total, strict=True)}
    return (
        {name: root(gradients[id(w)] for w in weights) for name, weights in layers.items()},
        {name: root(found) for name, found in deltas.items()},
        root(total),
    )


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def ours(caplog):
    return [record.message for record in caplog.records if record.name.startswith("unvanish")]


@pytest.fixture(autouse=True)
def _seen_by_caplog(caplog):
    caplog.set_level("WARNING", "unvanish.gradients")


@pytest.mark.parametrize(("make", "micro_batches"), [(gpt2, 3), (bert, 1)])
def test_each_step_s_values_are_plain_autograd_s(tmp_path, make, micro_batches):
    model = make()
    diary = Diary(model)
    options = {"max_grad_norm": 0, "gradient_accumulation_steps": micro_batches}
    train(tmp_path, model, GradientCallback(1), diary, **options, max_steps=9)
    steps, _ = lines(tmp_path)
    assert len(steps) == len(diary.steps) == 9
    for step, (weights, batches, random) in enumerate(diary.steps):
        twin = make()
        twin.load_state_dict(weights)
        torch.set_rng_state(random)
        gradients, deltas, total = plain_autograd(twin, batches)
        found = steps[step]
        assert found["gradient_norm"] == pytest.approx(total, rel=1e-5)
        shared = {"lm_head"} if make is gpt2 else set()  # its weight is that of the embedding
        assert found["values"]["gradient_norm"].keys() == gradients.keys() - shared
        for name, value in found["values"]["gradient_norm"].items():
            assert value == pytest.approx(gradients[name], rel=1e-5), name
        assert found["values"]["delta_norm"].keys() == deltas.keys()
        for name, value in found["values"]["delta_norm"].items():
            assert value == pytest.approx(deltas[name], rel=1e-5), name


@pytest.mark.parametrize(
    ("make", "optim", "kind", "options"),
    # Adam makes as much of rounding as of a gradient where that is 0 but for it, as those of GPT-2's keys' biases are.
    [(gpt2, "sgd", torch.optim.SGD, {}), (bert, "adamw_torch", torch.optim.AdamW, {"weight_decay": 0})],
)
def test_the_values_are_those_of_a_recorder_in_a_raw_loop(tmp_path, make, optim, kind, options):
    model = make()
    diary = Diary(model)
    train(tmp_path, model, GradientCallback(4), diary, max_grad_norm=0, optim=optim)
    model = make()
    optimizer = kind(model.parameters(), 0.01, **options)
    with GradientRecorder(model, 4) as recorder:
        for step, (_, (batch,), random) in enumerate(diary.steps):
            torch.set_rng_state(random)
            optimizer.zero_grad()
            model(**batch).loss.backward()
            recorder.before_step(step)
            optimizer.step()
            recorder.after_step(optimizer)
        records = recorder.flush()
    steps, _ = lines(tmp_path)
    for record in records:
        found = steps[record.step]
        assert found["values"].keys() == record.values.keys()
        assert ("delta_norm" in found["values"]) == (record.step in {*range(10), 12})
        for quantity, values in record.values.items():
            small = 1e-6 if quantity in ("gradient_cosine", "activation_mean") else 0  # these are around 0
            assert found["values"][quantity] == pytest.approx(values, rel=1e-5, abs=small), quantity
        for name, value in record.totals.items():
            assert found[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize(
    ("make", "micro_batches", "is_checkpointed"), [(gpt2, 1, False), (bert, 2, False), (gpt2, 2, True), (bert, 1, True)]
)
def test_the_weights_are_bit_for_bit_those_of_a_training_without_it(tmp_path, make, micro_batches, is_checkpointed):
    found = []
    for callbacks in ([GradientCallback(2)], []):
        model = make()
        if is_checkpointed:
            model.gradient_checkpointing_enable()
        train(tmp_path, model, *callbacks, gradient_accumulation_steps=micro_batches, max_steps=5)
        found.append(weights_of(model))
    assert torch.equal(*found)


def test_under_a_gradient_scaler_the_values_are_the_true_ones_and_overflow_is_no_verdict(tmp_path):
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    found = []
    for scale in (2.0**20, None):  # a CPU knows no fp16 in that Trainer, so here its calls are made by hand
        model, callback = bert().eval(), GradientCallback(1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3) if scale else None
        arguments = transformers.TrainingArguments(str(tmp_path / str(scale)), report_to=[], use_cpu=True)
        Accelerator(cpu=True)
        optimizer = AcceleratedOptimizer(torch.optim.SGD(model.parameters(), 0.1), scaler=scaler)
        event = {"args": arguments, "state": transformers.TrainerState(), "control": transformers.TrainerControl()}
        event |= {"model": model, "optimizer": optimizer}
        callback.on_train_begin(**event)
        for step in range(4):
            batch = torch.utils.data.default_collate(samples(model)[:BATCH])
            loss = model(**batch).loss
            (scaler.scale(loss) if scaler else loss).backward()
            if scaler:
                scaler.unscale_(optimizer.optimizer)
                if step == 3:
                    model.classifier.weight.grad.fill_(torch.inf)
                    scaler._per_optimizer_states[id(optimizer.optimizer)]["found_inf_per_device"] = {
                        torch.device("cpu"): torch.ones(1)
                    }
            callback.on_pre_optimizer_step(**event)
            optimizer.step()
            callback.on_optimizer_step(**event)
            optimizer.zero_grad()
            event["state"].global_step += 1
            callback.on_step_end(**event)
        assert optimizer.step_was_skipped == bool(scaler)
        callback.on_train_end(**event)
        found.append(lines(tmp_path / str(scale))[0])
        assert callback.report.steps == (3 if scaler else 4)
        assert callback.report.end.name == "healthy"
    scaled, plain = found
    for step in range(3):
        for quantity, values in plain[step]["values"].items():
            assert scaled[step]["values"][quantity] == pytest.approx(values, rel=1e-5, abs=1e-9), quantity


def test_two_processes_learn_of_the_whole_batch(tmp_path, monkeypatch):
    code = (
        "import sys, test_hugging_face as here, torch.distributed as dist\n"
        "options = {'ddp_backend': 'gloo', 'ddp_find_unused_parameters': False}\n"
        "here.train(sys.argv[1], here.certain(), here.GradientCallback(1), **here.TWO_STEPS, **options)\n"
        "dist.destroy_process_group()\n"
    )
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests/gradients", *sys.path]), "OMP_NUM_THREADS": "1"}
    where |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", code, str(tmp_path / "two")]
    ranks = [where | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, env=rank, **output) for rank in ranks]
    shown = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    assert "".join(shown).count("gradients after") == 1
    monkeypatch.setattr("test_hugging_face.BATCH", 2 * BATCH)
    train(tmp_path / "one", certain(), GradientCallback(1), **TWO_STEPS)
    two, one = (lines(tmp_path / folder)[0] for folder in ("two", "one"))
    for step in range(2):
        assert two[step]["gradient_norm"] == pytest.approx(one[step]["gradient_norm"], rel=1e-5)
        for quantity in ("gradient_norm", "delta_norm"):
            values = [found[step]["values"][quantity] for found in (two, one)]
            if quantity == "delta_norm":  # of what has no batch axis each rank has a delta of its own
                assert {found.pop("transformer.wpe") > 0 for found in values} == {True}
            assert values[0] == pytest.approx(values[1], rel=1e-5), quantity


def test_that_dl_dw_was_clipped_is_said_once_and_delta_is_not(tmp_path, caplog):
    found, notes = {}, {}
    for limit in (1e-2, 0):
        callback = GradientCallback(1)
        train(tmp_path / str(limit), bert(), callback, max_grad_norm=limit, seed=3)
        found[limit], notes[limit] = lines(tmp_path / str(limit))[0][0], callback.report.notes
    assert found[1e-2]["gradient_norm"] == pytest.approx(1e-2, rel=1e-3)
    assert found[0]["gradient_norm"] > 0.1
    assert found[1e-2]["values"]["delta_norm"] == pytest.approx(found[0]["values"]["delta_norm"], rel=1e-5)
    (note,) = notes[1e-2]
    assert note.startswith("dL/dW was read after Hugging Face's Trainer had clipped it to max_grad_norm = 0.01")
    assert ours(caplog) == [note]
    assert notes[0] == []
    assert json.loads((tmp_path / "0.01" / "gradient_report.json").read_text())["not_measured"] == [note]


def test_a_verdict_is_printed_after_ten_steps_and_at_the_end_and_kept(tmp_path, capsys):
    callback = GradientCallback()
    train(tmp_path, bert(), callback)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gradients")]
    assert [line.split(":")[0] for line in printed] == ["gradients after 10 steps", "gradients after 13 steps"]
    steps, verdicts = lines(tmp_path)
    assert [*steps] == [*range(13)]
    assert [verdict["step"] for verdict in verdicts] == [9, 12]
    assert json.loads((tmp_path / "gradient_report.json").read_text())["steps"] == 13
    assert (tmp_path / "gradient_report.png").read_bytes().startswith(b"\x89PNG")


def test_one_callback_trains_twice_and_each_time_begins_anew(tmp_path):
    callback, model = GradientCallback(), bert()
    for steps in (13, 11):
        train(tmp_path, model, callback, max_steps=steps)
        assert callback.report.steps == len(lines(tmp_path)[0]) == steps
        assert not any(module._forward_hooks for module in model.modules())


def test_a_training_that_goes_on_from_a_checkpoint_goes_on_with_its_file(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 4}
    train(tmp_path, bert(), GradientCallback(), **saving, max_steps=8)
    callback = GradientCallback()
    train(tmp_path, bert(), callback, **saving, max_steps=12, resume=str(tmp_path / "checkpoint-8"))
    assert [*lines(tmp_path)[0]] == [*range(12)]
    assert callback.report.steps == 4


class Crash(transformers.TrainerCallback):
    def __init__(self, error):
        self.error = error

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 3:
            raise self.error


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (RuntimeError, "close"),
        (RuntimeError, "next training"),
        (RuntimeError, "given up"),
        (KeyboardInterrupt, "close"),
    ],
)
def test_a_training_that_dies_leaves_its_report_and_no_hook(tmp_path, end, error):
    callback, model = GradientCallback(), bert()
    with pytest.raises(error) as found:
        train(tmp_path / "dies", model, callback, Crash(error("no more")))
    if end == "close":
        callback.close()
    elif end == "next training":
        train(tmp_path / "next", bert(), callback)
    else:
        del callback, found  # whose traceback holds the trainer
        gc.collect()
    assert json.loads((tmp_path / "dies" / "gradient_report.json").read_text())["steps"] == 3
    assert not any(module._forward_hooks for module in model.modules())


def test_a_process_that_dies_leaves_its_report(tmp_path):
    call = f"train({str(tmp_path)!r}, bert(), GradientCallback(), Crash(RuntimeError('no more')))"
    code = f"from test_hugging_face import *; {call}"
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests/gradients", *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: no more" in done.stderr.splitlines()
    assert json.loads((tmp_path / "gradient_report.json").read_text())["steps"] == 3
    assert (tmp_path / "gradient_report.png").exists()


def test_an_error_in_the_recorder_is_one_warning_and_the_training_goes_on(tmp_path, monkeypatch, caplog):
    found = []
    for callbacks in ([GradientCallback()], []):
        with monkeypatch.context() as patch:
            before_step = GradientRecorder.before_step

            def fail(self, step, *arguments, before_step=before_step, **keywords):
                if step == 11:
                    raise RuntimeError("a fault of ours")
                before_step(self, step, *arguments, **keywords)

            patch.setattr(GradientRecorder, "before_step", fail)
            model = bert()
            train(tmp_path, model, *callbacks, max_grad_norm=0)
            found.append(weights_of(model))
        assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(*found)
    assert ours(caplog) == ["gradients are not recorded any more: RuntimeError: a fault of ours"]
    report = json.loads((tmp_path / "gradient_report.json").read_text())
    assert report["steps"] == 10
    assert report["not_measured"] == ["nothing was recorded after step 9: RuntimeError: a fault of ours"]


def test_a_file_that_cannot_be_written_is_one_warning_and_the_training_goes_on(tmp_path, caplog):
    (tmp_path / "gradients.jsonl").mkdir()
    callback = GradientCallback()
    trainer = train(tmp_path, bert(), callback, max_grad_norm=0)
    assert trainer.state.global_step == callback.report.steps == 13
    (message,) = ours(caplog)
    assert message.startswith("JsonLines gets no gradients any more: IsADirectoryError")


def test_a_model_that_cannot_be_watched_is_trained_and_the_callback_says_why(tmp_path, caplog):
    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.config = transformers.PretrainedConfig()

        def forward(self, input_ids, labels):
            return {"loss": (self.scale * input_ids).square().mean()}

    trainer = train(tmp_path, Scale(), GradientCallback())
    assert trainer.state.global_step == 13
    assert ours(caplog) == ["gradients are not recorded: Scale has no weight, so there is no gradient to record"]


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match="every_n_steps is 0; it must be at least 1"):
        GradientCallback(0)
