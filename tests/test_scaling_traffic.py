# SPDX-License-Identifier: Apache-2.0
"""What is counted of the steps of the scaling benchmark is what its processes send."""

import json
import runpy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional

from tools.bench.scaling_cases import Problem, divide, problems
from tools.bench.scaling_traffic import (
    MATMUL_MODES,
    Exchange,
    as_on_gpus,
    count,
    counted_step,
)
from tools.scaling_page import COUNTED
from tools.workspace import ROOT

PROCESSES = ROOT / "packages" / "physicsnemo-distributed" / "tests" / "processes.py"
EXCHANGING = ("fsdp", "domain-fixed", "domain-weak")
VIEWS = "ignore:FSDP2-wrapped module:UserWarning"  # whose outputs nothing changes in place


def small(name: str) -> Problem:
    """Return a small problem."""
    return next(it for it in problems(small=True) if it.name == name)


def of_the_page(name: str) -> Problem:
    """Return a problem of the size that the documentation has."""
    return next(it for it in problems(small=False) if it.name == name)


def stored() -> list[Exchange]:
    """Return what the page is made of."""
    content = json.loads(COUNTED.read_text(encoding="utf-8"))
    return [Exchange(**it) for it in content["exchanges"]]


@pytest.mark.parametrize("gpus", [2, 8])
def test_modes_of_fno_by_their_number(gpus: int) -> None:
    found = count(small("FNO 3D"), "domain-fixed", gpus)
    modes = 2 * 12 * 12 * 6 * 16  # real and imaginary parts of 16 channels
    layers, passes, size = 4, 4, 2  # there and back, in both passes, in bfloat16
    # Each process has as many of the first axis's 12 modes as it comes to.
    own = 12 * (gpus // 2 + 1) // gpus - 12 * (gpus // 2) // gpus
    to_others = modes * (12 - own) // 12 + (gpus - 1) * modes * own // 12
    assert found.calls["all_to_all"] == layers * passes
    assert found.sent["all_to_all"] == layers * passes // 2 * size * to_others
    assert found.rows == 24


def test_operations_of_a_layer() -> None:
    _, operations = counted_step(nn.Linear(8, 16), (torch.ones(5, 8),))
    assert operations == 2 * 2 * 5 * 8 * 16  # forward, and backward to the weights


def test_transforms_count_as_products() -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.fft.rfft2(x).abs()
            return y

    x = torch.ones(3, 10, 512, requires_grad=True)
    _, operations = counted_step(Spectrum(), (x,))
    assert operations >= 4 * MATMUL_MODES * x.numel()


def test_precision_of_gpus() -> None:
    x, weight = torch.ones(2, 4), torch.ones(4)
    with torch.autocast("cpu", torch.bfloat16):
        half = x @ x.T
        with as_on_gpus():
            assert functional.layer_norm(half, (2,)).dtype == torch.float32
        assert functional.layer_norm(half, (2,)).dtype == torch.bfloat16
    with as_on_gpus():
        assert functional.layer_norm(x, (4,), weight).dtype == torch.float32


@pytest.fixture(scope="module", params=[2, 4])
def processes(request: pytest.FixtureRequest) -> Iterator[Any]:
    group = runpy.run_path(str(PROCESSES))["Processes"](request.param, timeout=300.0)
    yield group
    group.stop()


def test_counts_of_the_page() -> None:
    assert count(of_the_page("FNO 3D"), "domain-fixed", 8) in stored()


@pytest.mark.slow
@pytest.mark.filterwarnings(VIEWS)
@pytest.mark.parametrize("name", dict.fromkeys(it.case for it in stored()))
def test_all_counts_of_the_page(name: str) -> None:
    own = [it for it in stored() if it.case == name]
    problem = of_the_page(name)
    assert own == [count(problem, it.way, it.gpus) for it in own]


@pytest.mark.distributed
@pytest.mark.filterwarnings(VIEWS)
@pytest.mark.parametrize("name", ["FNO 3D", "AFNO", "MeshGraphNet", "GraphCast", "Pangu"])
@pytest.mark.parametrize("way", EXCHANGING)
def test_what_processes_send(processes: Any, name: str, way: str) -> None:
    size = processes.count
    found = count(small(name), way, size)
    calls, sent = processes.run(sent_by_processes, name, way)[size // 2]  # as the pretended one
    assert (found.calls, found.sent) == (calls, sent)


def sent_by_processes(name: str, way: str) -> tuple[Counter[str], Counter[str]]:
    """Return what a step of a small problem sends by kind, in bfloat16."""
    problem, mesh = small(name), init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    rows = problem.rows_of(way, mesh.size())
    model, inputs = problem.model(rows), problem.sample(rows)
    traffic, _ = counted_step(*divide(model, inputs, way, mesh, torch.bfloat16))
    if way != "fsdp":
        traffic.average_gradients(model.parameters(), mesh.size())
    return traffic.calls, traffic.sent
