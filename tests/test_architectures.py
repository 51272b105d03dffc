"""The checks of benchmarks/architectures: on twenty networks of different kinds, and that they see what is wrong."""

import pytest
import torch
from torch import nn

from benchmarks.architectures.check import check
from benchmarks.architectures.order import misplaced, wholly_downstream
from benchmarks.architectures.specimen import Specimen
from benchmarks.architectures.work import Limits, check_all, check_one, source_of
from unvanish.gradients import GradientRecorder

pytestmark = pytest.mark.slow

SAMPLE = [
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "shufflenet_v2_x0_5"),
    ("torchvision", "lraspp_mobilenet_v3_large"),
    ("torchvision", "raft_small"),
    ("timm", "test_vit"),
    ("timm", "test_mambaout"),
    ("timm", "test_efficientnet"),
    ("timm", "cait_xxs24_224"),
    ("timm", "coat_lite_tiny"),
    ("transformers", "llama/LlamaForCausalLM"),
    ("transformers", "mixtral/MixtralForCausalLM"),
    ("transformers", "mamba/MambaForCausalLM"),
    ("transformers", "gpt2/GPT2ForSequenceClassification"),
    ("transformers", "bert/BertForMaskedLM"),
    ("transformers", "albert/AlbertForMaskedLM"),
    ("transformers", "t5/T5ForConditionalGeneration"),
    ("transformers", "segformer/SegformerForImageClassification"),
    ("transformers", "wav2vec2/Wav2Vec2ForSequenceClassification"),
    ("transformers", "whisper/WhisperForConditionalGeneration"),
    ("transformers", "detr/DetrForObjectDetection"),
]


def _require(source):
    pytest.importorskip(source, reason=f"the networks of {source} need {source}, which is not installed")


@pytest.mark.filterwarnings("ignore")  # what others' networks warn of is not ours
@pytest.mark.parametrize(("source", "name"), SAMPLE)
def test_the_recorder_is_right_about_what_others_wrote(source, name):
    _require(source)
    row = check_one(source, name)
    assert "not_run" not in row, row["not_run"]
    assert {key: found for key, found in row["findings"].items() if key != "verdict"} == {}
    assert row["gradients"] > 5
    assert row["deltas"] > 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("source", "least"), [("torchvision", 120), ("timm", 240), ("transformers", 700)])
def test_there_are_many_networks_and_each_has_a_builder(source, least):
    _require(source)
    module = source_of(source)
    names = module.names()
    assert len(names) == len(set(names)) >= least
    assert all(callable(module.builder(name)) for name in names)


def _mlp():
    return Specimen(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 7)), (torch.randn(11, 3),))


def test_nothing_is_found_where_nothing_is_wrong():
    assert check(_mlp) == {
        "findings": {},
        "is_random": False,
        "layers": 2,
        "gradients": 2,
        "deltas": 2,
        "verdict": "healthy",
    }


@pytest.mark.parametrize(("quantity", "check_name"), [("gradient_norm", "gradients"), ("delta_norm", "deltas")])
def test_a_wrong_and_a_missing_number_are_found(monkeypatch, quantity, check_name):
    flush = GradientRecorder.flush

    def wrong(recorder):
        records = flush(recorder)
        records[1].values[quantity]["2"] *= 1.0001
        return records

    monkeypatch.setattr(GradientRecorder, "flush", wrong)
    assert check(_mlp)["findings"].keys() == {check_name}

    def missing(recorder):
        records = flush(recorder)
        del records[2].values[quantity]["0"]
        return records

    monkeypatch.setattr(GradientRecorder, "flush", missing)
    assert check(_mlp)["findings"][check_name][0].startswith("not recorded at step 2 of 1 layers: 0")


def test_a_draw_from_the_networks_generator_is_found(monkeypatch):
    before_step = GradientRecorder.before_step

    def careless(recorder, step):
        before_step(recorder, step)
        torch.rand(1)

    def dropped():
        return Specimen(nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 7)), (torch.ones(11, 3),))

    assert check(dropped)["findings"] == {}
    monkeypatch.setattr(GradientRecorder, "before_step", careless)
    assert check(dropped)["findings"].keys() == {"identical"}


def test_a_weight_of_which_nothing_is_said_is_found(monkeypatch):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 5), nn.Linear(5, 7)

        def forward(self, x):
            self.idle(self.used(x))
            return self.used(x)

    monkeypatch.setattr(GradientRecorder, "notes", [])
    monkeypatch.setattr(GradientRecorder, "not_measured", {}, raising=False)
    found = check(lambda: Specimen(Idle(), (torch.randn(11, 3),)))["findings"]
    assert "idle" in found["gradients"][0]
    assert "idle" in found["deltas"][0]


def test_an_error_of_the_recorder_is_a_finding(monkeypatch):
    monkeypatch.setattr(GradientRecorder, "after_step", lambda recorder: 1 / 0)
    assert check(_mlp) == {"findings": {"runs": ["ZeroDivisionError: division by zero"]}}


def test_order_comes_from_the_graph():
    x, w = torch.ones(2), torch.ones(2, requires_grad=True)
    first = x * w
    again = first.tanh() * w  # the same layer a second time
    last = (again + first).sum()
    calls = {first.grad_fn: "shared", again.grad_fn: "shared", last.grad_fn: "last"}
    found = wholly_downstream(last.grad_fn, calls)
    assert found == {"shared": {"last"}}
    assert misplaced(["shared", "last"], found) == []
    assert misplaced(["last", "shared"], found) == ["shared after last"]


def test_a_process_that_takes_too_long_ends_nothing_else():
    rows = list(check_all([("torchvision", "squeezenet1_1"), ("torchvision", "no such")], 1, Limits(0.5, 8)))
    assert [row["name"] for row in rows] == ["squeezenet1_1", "no such"]
    assert "not done after" in rows[0]["not_run"]
