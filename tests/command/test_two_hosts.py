"""One training on two hosts: network namespaces of this machine, each with an address of its own."""

import csv
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.slow

HOSTS = {"unvanish-a": "10.77.0.1", "unvanish-b": "10.77.0.2"}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Two namespaces that reach each other."""
    if shutil.which("ip") is None:
        pytest.skip("the command ip is not there")
    with ExitStack() as stack:
        try:
            for name in HOSTS:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
            ip("link", "add", "unvanish-a", "type", "veth", "peer", "name", "unvanish-b")
            for name, address in HOSTS.items():
                ip("link", "set", name, "netns", name)
                ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
                for device in ("lo", name):
                    ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces may be made here: {error.stderr.decode().strip()}")
        yield


def test_two_hosts_make_one_run(workplace, hosts):
    words = ["unvanish", "fit", "mlp/wine", "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    launcher += ["--rdzv-backend=c10d", "--rdzv-id=1", f"--rdzv-endpoint={HOSTS['unvanish-a']}:29400"]
    processes = []
    for name, address in HOSTS.items():
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": name}
        # The two share a name, by which torchrun would know where to listen.
        is_first = f"--rdzv-conf=is_host={name == 'unvanish-a'}"
        command = ["ip", "netns", "exec", name, *launcher, is_first, f"--local-addr={address}", "-m", *words]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    try:
        shown = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("kept in runs/mlp/wine/1" in text for text in shown) == [False, True]
    assert os.listdir("runs/mlp/wine") == ["1"]
    with (workplace / "runs/mlp/wine/1/metrics.csv").open() as file:
        assert sum(bool(row["val/loss"]) for row in csv.DictReader(file)) == 2
