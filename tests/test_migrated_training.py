# SPDX-License-Identifier: Apache-2.0
"""A script for nvidia-physicsnemo 1.2 trains here after ``physicsnemo migrate --write``."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from physicsnemo import Module

SCRIPT = Path(__file__).parent / "data" / "script_of_1_2.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """Return the script, migrated on the disk."""
    path = tmp_path_factory.mktemp("migrated") / "train.py"
    shutil.copy(SCRIPT, path)
    command = [sys.executable, "-c", "from physicsnemo.cli import main; main()"]
    done = subprocess.run(
        [*command, "migrate", "--write", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return path


def train(script, folder, epochs, processes=1):
    start = (*TORCHRUN, str(processes)) if processes > 1 else ()
    command = [sys.executable, *start, str(script), str(folder), str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


def expected(epochs):
    """Return the weights after as many epochs, and the mean loss of each, by PyTorch alone."""
    torch.manual_seed(0)
    x = torch.rand(64, 2)
    y = torch.sin(x.sum(1, keepdim=True))
    torch.manual_seed(1)
    net = torch.nn.Sequential(dense(2, 8), torch.nn.SiLU(), dense(8, 1))
    rate, means = 0.1, []
    for _ in range(epochs):
        losses = []
        for start in range(0, 64, 16):
            net.zero_grad()
            loss = torch.nn.functional.mse_loss(net(x[start : start + 16]), y[start : start + 16])
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= rate * parameter.grad
            losses.append(loss.item())
        rate *= 0.9
        means.append(sum(losses) / len(losses))
    return list(net.parameters()), means


def dense(inputs, outputs):
    layer = torch.nn.Linear(inputs, outputs)
    torch.nn.init.xavier_uniform_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.distributed)])
def test_two_epochs_in_two_runs(script, tmp_path, processes):
    weights, losses = expected(2)
    for epoch in (1, 2):
        log = train(script, tmp_path, epoch, processes)
        assert f"begins after epoch {epoch - 1}" in log
        assert log.count("physicsnemo.main: trained") == 1
        (line,) = re.findall(r"physicsnemo\.launch: train, epoch (\d+): loss = (\S+),", log)
        assert line[0] == str(epoch)
        assert float(line[1]) == pytest.approx(losses[epoch - 1], rel=1e-3)
    assert sorted(it.name for it in tmp_path.glob("net.*")) == ["net.0.1.mdlus", "net.0.2.mdlus"]
    namespace = {"__name__": "migrated"}
    exec(script.read_text(), namespace)
    net = namespace["Net"]()
    net.load(tmp_path / "net.0.2.mdlus")
    torch.testing.assert_close(list(net.parameters()), weights, rtol=1e-5, atol=1e-6)
    assert isinstance(net, Module)
