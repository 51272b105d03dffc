import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18

import unvanish
from unvanish import MLP, GradientRecorder

SAMPLES, INPUTS, CLASSES = 11, 5, 3


def batch(*shape):
    torch.manual_seed(1)
    return torch.randn(SAMPLES, *shape), torch.randint(CLASSES, (SAMPLES,))


def test_a_diagnosis_is_the_recorder_s_and_leaves_the_model_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, 7), nn.BatchNorm1d(7), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(7, CLASSES))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = batch(INPUTS)
    state = torch.get_rng_state()
    found = unvanish.diagnose(model, (x, y), F.cross_entropy)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    with GradientRecorder(model.train()) as recorder:
        F.cross_entropy(model(x), y).backward()
        recorder.before_step(0)
    assert found.record.values["delta_norm"] == pytest.approx(recorder.flush()[0].values["delta_norm"], rel=1e-6)
    assert found.activations == {"0": "sigmoid", "4": "identity"}


def test_json_has_the_promised_keys_and_theory_beside_the_measurement():
    torch.manual_seed(0)
    model = MLP((INPUTS,), CLASSES, 64, 20, "sigmoid", "default")
    found = unvanish.diagnose(model, batch(INPUTS), F.cross_entropy)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    keys = {"verdict", "factor_per_layer", "first_over_last", "layers", "theory", "fixes", "evidence"}
    assert values.keys() >= keys
    assert values["verdict"] == "vanishing"
    assert values["theory"]["factor_per_layer"] == pytest.approx(values["factor_per_layer"], rel=0.05)
    first, *_, last = values["layers"]
    assert first["delta_norm"] / last["delta_norm"] == pytest.approx(values["first_over_last"])
    assert (first["activation"], last["activation"]) == ("sigmoid", "identity")
    assert values["fixes"][0] == {"fix": "ReLU with He initialization"}


def test_the_text_has_a_line_for_each_layer_and_for_each_time():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.leave = nn.LSTM(1, 7, batch_first=True), nn.Linear(7, CLASSES)

        def forward(self, x):
            return self.leave(self.lstm(x.unsqueeze(-1))[0][:, -1])

    found = unvanish.diagnose(Reads(), batch(13), F.cross_entropy)
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "|delta|", "|dL/dW|", "activation", "mean", "std"]
    assert [line.split()[0] for line in lines[1:3]] == ["lstm", "leave"]
    assert lines[4] == "t of lstm  |dL/dh_t|"
    assert [int(line.split()[0]) for line in lines[5:13]] == [1, 3, 4, 6, 8, 10, 11, 13]
    assert f"{found.record.through_time['lstm'][13]:.1e}" in lines[12]


@pytest.mark.slow
def test_resnet18_is_healthy_and_all_its_layers_are_seen():
    torch.manual_seed(0)
    found = unvanish.diagnose(resnet18(num_classes=CLASSES), batch(3, 32, 32), F.cross_entropy)
    assert found.verdict.name == "healthy"
    assert len(found.record.values["delta_norm"]) == 21
    assert found.chain is None
    assert found.notes == []


def test_a_loss_that_is_no_scalar_or_has_no_gradient_is_refused():
    model = nn.Linear(INPUTS, CLASSES)
    for loss in (lambda out, y: out, lambda out, y: out.detach().sum()):
        with pytest.raises(ValueError, match="the loss must be a scalar with a gradient"):
            unvanish.diagnose(model, batch(INPUTS), loss)
