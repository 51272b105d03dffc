"""A network that was exported, one sample at a time, beside the live one."""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.speed.row import Row, in_turns
from unvanish import CNN, MLP

CALLS = 500
NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "MLP 784-128-128-10": lambda: (MLP((784,), 10, 128, 2), torch.randn(1, 784)),
    "CNN on 28x28": lambda: (CNN((1, 28, 28), 10), torch.randn(1, 1, 28, 28)),
}


def from_onnx(network: nn.Module, x: Tensor, path: Path) -> Callable[[], object]:
    """As ONNX Runtime answers."""
    import onnxruntime  # noqa: PLC0415 - of this file alone

    torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, given)[0]


def from_pt2(network: nn.Module, x: Tensor, path: Path) -> Callable[[], object]:
    """As a program of torch.export answers."""
    torch.export.save(torch.export.export(network, (x,)), path)
    module = torch.export.load(path).module()
    return lambda: module(x)


def from_safetensors(network: nn.Module, x: Tensor, path: Path) -> Callable[[], object]:
    """As a new network answers that has the weights of a file."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - of this file alone

    save_file(network.state_dict(), path)
    network.load_state_dict(load_file(path))
    return lambda: network(x)


FORMATS = {"ONNX Runtime": from_onnx, "pt2": from_pt2, "live, weights from safetensors": from_safetensors}


def a_call(work: Callable[[], object]) -> float:
    """Microseconds."""
    start = time.perf_counter()
    for _ in range(CALLS):
        work()
    return 1e6 * (time.perf_counter() - start) / CALLS


def rows(root: Path) -> Iterator[Row]:
    """Microseconds a call; the answers must be alike."""
    for title, build in NETWORKS.items():
        torch.manual_seed(0)
        network, x = build()
        network.eval()
        with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of exporters, on their own insides
            works: dict[str, Callable[[], object]] = {"live": lambda network=network, x=x: network(x)}
            for name, write in FORMATS.items():
                torch.manual_seed(1)
                other = build()[0].eval() if "safetensors" in name else network
                other.load_state_dict(network.state_dict())
                works[name] = write(other, x, Path(folder) / f"network.{name.partition(' ')[0]}")
            expected = works["live"]()
            for name, work in works.items():
                torch.testing.assert_close(torch.as_tensor(work()), expected, rtol=1e-4, atol=1e-5, msg=name)
            times = in_turns({name: lambda work=work: a_call(work) for name, work in works.items()})
        for name in FORMATS:
            yield Row(f"{title}, batch 1: {name}", "live", times[name], times["live"], "us a call")
