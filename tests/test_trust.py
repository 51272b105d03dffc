import sys

import lightning as L
import pytest
import timm
import torch
import torchvision
from torch import nn

from unvanish import trust
from unvanish.trust import UntrustedError, resolve

#: Names of what a stranger may want to have called, each by way of an allowed package or of none.
CLOSED = [
    *("os.system", "builtins.exec", "subprocess.Popen", "posix.system", "sys.exit"),
    *("torch.hub.load", "torch.load", "torch.jit.load", "torch.fx.GraphModule", "torch.os.system"),
    *("torch.fx.graph_module.reduce_graph_module", "torch.utils.data.dataset.bisect", "torch.nn.modules.module.os"),
    *("torchvision.io.image.os.system", "torchvision.models._api.get_model", "torch.nn.functional.boolean_dispatch"),
    *("lightning.pytorch.trainer.trainer.os.system", "lightning.pytorch.callbacks.LambdaCallback.__init__"),
    *("timm.models._factory.create_model", "timm.models.helpers.os.system", "transformers.AutoModel.from_pretrained"),
    *("unvanish.command.main.main", "unvanish.trust.trusting", "unvanish.command.fit.shlex.join"),
    *("", ".", "a", "torch.nn:Linear", "torch.nn.Linear()", "torch..nn", "../evil.Net", "torch.nn.Linear\n"),
]


@pytest.mark.parametrize("path", CLOSED)
def test_what_is_no_network_is_not_to_be_had_by_any_way(path):
    with pytest.raises(ValueError, match=r"^module .") as refusal:
        resolve(path, nn.Module, "module")
    assert "\n" not in str(refusal.value).replace(path, "")


def test_classes_of_the_kind_and_functions_that_return_a_network_are_found():
    assert resolve("torch.nn.Linear", nn.Module, "module") is nn.Linear
    assert resolve("torchvision.models.alexnet", nn.Module, "module") is torchvision.models.alexnet
    assert resolve("timm.create_model", nn.Module, "module") is timm.create_model
    assert resolve("torch.optim.NAdam", torch.optim.Optimizer, "optimizer") is torch.optim.NAdam
    name = "lightning.pytorch.callbacks.EarlyStopping"
    assert resolve(name, L.Callback, "callback") is L.pytorch.callbacks.EarlyStopping
    with pytest.raises(ValueError, match=r"^callback 'torch.nn.Linear' is no Callback: it is the class Linear$"):
        resolve("torch.nn.Linear", L.Callback, "callback")


@pytest.fixture
def theirs(workplace):
    """A stranger's folder: a module that says when it is imported, and one with an allowed package's name."""
    (workplace / "theirs.py").write_text(
        "open('was_run', 'w').close()\nimport os\nfrom os import system\n"
        "from fractions import Fraction\nfrom torch import nn\n"
        "class Net(nn.Linear): pass\nclass Other: pass\n"
        "def build(width: int): return nn.Linear(width, width)\n"
    )
    yield workplace
    sys.modules.pop("theirs", None)


def test_a_module_is_run_when_it_is_trusted_and_not_before(theirs, monkeypatch):
    with pytest.raises(UntrustedError, match="add --trust theirs, or for always set UNVANISH_TRUST=theirs") as refusal:
        resolve("theirs.Net", nn.Module, "module")
    assert str(refusal.value).startswith("module 'theirs.Net' runs the code of theirs.py, ")
    assert not (theirs / "was_run").exists()
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    with trust.trusting(["theirs"]):
        assert issubclass(resolve("theirs.Net", nn.Module, "module"), nn.Linear)
        assert resolve("theirs.build", nn.Module, "module")(3).in_features == 3
        for name in ("theirs.system", "theirs.os.system", "theirs.Fraction", "theirs.Other", "theirs.os"):
            with pytest.raises(ValueError, match=r"a part of Python|is no Module|of type module"):
                resolve(name, nn.Module, "module")
        assert trust.words() == ["--trust", "theirs"]
    assert (theirs / "was_run").exists()
    assert trust.words() == trust.trusted() == []
    assert "" not in sys.path
    with pytest.raises(UntrustedError):
        resolve("theirs.Net", nn.Module, "module")


def test_the_environment_trusts_for_always(theirs, monkeypatch):
    monkeypatch.setenv(trust.VARIABLE, "others, theirs")
    assert trust.is_allowed("theirs.Net")
    assert trust.is_allowed("others.deeper.Net")
    assert not trust.is_allowed("theirs_too.Net")
    with trust.trusting(["theirs", "third.part"]):
        assert trust.words() == ["--trust", "third.part"]  # the rest another command knows by itself
        assert trust.is_allowed("third.part.Net")
        assert not trust.is_allowed("third.Net")


def test_a_file_in_the_current_folder_is_not_taken_for_an_allowed_package(workplace, monkeypatch):
    (workplace / "timm.py").write_text("raise SystemExit('run')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend("")
    with pytest.raises(UntrustedError, match=r"'timm\.create_model' runs the code of timm\.py, .*--trust timm"):
        resolve("timm.create_model", nn.Module, "module")


def test_what_has_been_found_in_another_way_is_held_to_its_own_module():
    trust.check_object("on_fit_start", nn.Linear)
    for found, own in ((sys.exit, "sys.exit"), (torch.hub.load, "torch.hub.load"), (exec, "builtins.exec")):
        with pytest.raises(UntrustedError, match=f"'on_fit_start' is {own}"):
            trust.check_object("on_fit_start", found)
