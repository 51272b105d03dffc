import re
from urllib.error import URLError

import pytest
import torch
from torchvision.models import _api, squeezenet1_1

from unvanish.networks import Wrap
from unvanish.networks.pretrained import pretrained, without_pretrained

PATH = "torchvision.models.squeezenet1_1"


@pytest.fixture
def carried(monkeypatch):
    """What a download would bring: ramps; and the addresses that were asked for."""
    weights = {
        name: torch.linspace(-1, 1, tensor.numel()).view_as(tensor)
        for name, tensor in squeezenet1_1().state_dict().items()
    }
    asked = []

    def download(url, *_, **__):
        asked.append(url)
        return weights

    monkeypatch.setattr(_api, "load_state_dict_from_url", download)
    return weights, asked


def test_a_wrapped_module_begins_with_the_weights_that_are_named(carried):
    weights, asked = carried
    network = Wrap((3, 64, 64), 1000, PATH, weights="IMAGENET1K_V1")
    found = network.module.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert asked
    assert network.hparams["weights"] == "IMAGENET1K_V1"
    del asked[:]
    with without_pretrained():
        other = Wrap((3, 64, 64), 1000, PATH, weights="IMAGENET1K_V1").module.state_dict()
    assert not asked
    assert not torch.equal(other["features.0.weight"], weights["features.0.weight"])


def test_timm_s_argument_is_left_to_timm_but_for_a_checkpoint():
    assert pretrained("timm.create_model", {"pretrained": True}, None) == {"pretrained": True}
    with without_pretrained():
        assert pretrained("timm.create_model", {"pretrained": True}, None) == {"pretrained": False}


@pytest.mark.parametrize(
    ("path", "arguments", "name", "message"),
    [
        (PATH, {}, "IMAGENET1K_V2", "unknown weights of .* 'IMAGENET1K_V2'; did you mean 'IMAGENET1K_V1'?"),
        ("torch.nn.Linear", {}, "DEFAULT", "weights are by name for torchvision's models alone, and 'torch.nn.Linear'"),
        (PATH, {"weights": None}, "DEFAULT", "weights are given twice"),
    ],
)
def test_weights_that_there_are_not_are_refused(path, arguments, name, message):
    with pytest.raises(ValueError, match=message):
        pretrained(path, arguments, name)


def test_without_a_network_it_is_said_where_the_file_belongs(monkeypatch):
    def offline(*_, **__):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(_api, "load_state_dict_from_url", offline)
    told = rf"weights DEFAULT of {re.escape(PATH)} could not be downloaded \(Temporary failure in name resolution\); "
    with pytest.raises(ValueError, match=told + r"put the file there: .*checkpoints/squeezenet1_1-\w+\.pth$"):
        pretrained(PATH, {}, "DEFAULT")
