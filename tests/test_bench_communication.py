# SPDX-License-Identifier: Apache-2.0
"""What the calculator counts without processes is what processes send."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from physicsnemo.distributed import distribute, shard, split
from physicsnemo.models.afno import AFNO
from physicsnemo.models.dlwp import DLWP
from physicsnemo.models.graphcast import GraphCastNet
from physicsnemo.models.pangu import Pangu
from physicsnemo.models.sfno import SFNO
from tools.bench.communication import (
    BEGIN,
    COSTS,
    END,
    GUIDE,
    main,
    read_costs,
    read_links,
    seconds,
    tables,
)
from tools.bench.links import Link, Time, closest, fit, needed
from tools.bench.quarter_degree import CASES
from tools.bench.traffic import Case, Cost, Counting, Traffic, costs, count_step, pretended
from tools.workspace import ROOT

PROCESSES = ROOT / "packages" / "physicsnemo-distributed" / "tests" / "processes.py"
SMALL = {
    case.name: case
    for case in (
        Case("AFNO", lambda: AFNO((24, 16), 2, 3, (4, 4), 16, 2, num_blocks=2), [(1, 2, 24, 16)]),
        Case(
            "Pangu",
            lambda: Pangu((61, 12), embed_dim=4, num_heads=(1, 2, 2, 1), window_size=(2, 2, 2)),
            [(1, 72, 61, 12)],
        ),
        Case(
            "SFNO",
            lambda: SFNO((33, 64), (33, 64), 3, 2, embed_dim=8, scale_factor=2, num_layers=3),
            [(1, 3, 33, 64)],
        ),
        Case("DLWP", lambda: DLWP(3, 2, 4), [(1, 3, 6, 8, 8)]),
        Case(
            "GraphCastNet",
            lambda: GraphCastNet(
                mesh_level=2,
                input_res=(13, 9),
                input_dim_grid_nodes=3,
                output_dim_grid_nodes=2,
                hidden_dim=8,
                processor_layers=3,
            ),
            [(1, 3, 13, 9)],
        ),
    )
}


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.distributed)])
def processes(request: pytest.FixtureRequest) -> Iterator[Any]:
    group = runpy.run_path(str(PROCESSES))["Processes"](request.param, timeout=120.0)
    yield group
    group.stop()


def test_bytes_by_their_formulas() -> None:
    # By their new names where PyTorch has them, as it warns of the old ones.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    with pretended(8), Counting() as counting:
        x, part = torch.zeros(16, 3), torch.zeros(2, 3)
        dist.all_reduce(x)
        gather(x, part)
        scatter(part, x.double())
        dist.all_to_all_single(torch.zeros_like(x), x)
        dist.all_to_all_single(torch.zeros(16, 3), x, [2] * 8, [0, 0, 1, 0, 10, 0, 0, 5])
    size = 16 * 3 * 4
    assert counting.traffic.calls == dict.fromkeys(
        ("all_reduce", "all_gather", "reduce_scatter"), 1
    ) | {"all_to_all": 2}
    assert counting.traffic.sent == {
        "all_reduce": 2 * size * 7 // 8,
        "all_gather": size * 7 // 8,
        "reduce_scatter": 2 * size * 7 // 8,
        "all_to_all": size * 7 // 8 + 6 * 3 * 4,  # ten rows stay with the fifth process
    }


@pytest.mark.parametrize("name", SMALL)
def test_what_processes_send(processes: Any, name: str) -> None:
    size = processes.count
    predicted = {cost.way: (cost.calls, cost.sent) for cost in costs(SMALL[name], [size])}
    assert list(predicted) == ["ddp", "fsdp", "domain"]
    real = processes.run(sent_by_processes, name)
    assert predicted == real[size // 2]  # the process that a fake one is


def sent_by_processes(name: str) -> dict[str, Any]:
    """Return what steps of a small model send by each way."""
    case, mesh = SMALL[name], init_device_mesh("cpu", (dist.get_world_size(),))
    inputs = [torch.randn(shape) for shape in case.shapes]
    found: dict[str, Any] = {}

    averaged = averaged_gradients(case.build(), lambda model: case.loss(model, inputs))
    found["ddp"] = _plain(averaged)

    with Counting() as counting:
        case.loss(shard(case.build(), mesh), inputs).backward()
    found["fsdp"] = _plain(counting.traffic)

    divided = distribute(case.build(), mesh)
    with Counting() as counting:
        case.loss(divided, [split(x, divided) for x in inputs]).backward()
    counting.traffic.calls += averaged.calls
    counting.traffic.sent += averaged.sent
    found["domain"] = _plain(counting.traffic)
    return found


def averaged_gradients(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Traffic:
    """Return what DistributedDataParallel sends in a second step, which has its buckets."""
    averaged = DistributedDataParallel(model)
    sizes: list[int] = []
    averaged.register_comm_hook(sizes, _noting_hook)
    loss(averaged).backward()
    sizes.clear()
    loss(averaged).backward()
    traffic, ranks = Traffic(), dist.get_world_size()
    for size in sizes:
        traffic.add("all_reduce", round(2 * size * (ranks - 1) / ranks))
    return traffic


def _noting_hook(sizes: list[int], bucket: GradBucket) -> torch.futures.Future[Tensor]:
    sizes.append(bucket.buffer().nbytes)
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


def test_buckets_of_gradients(processes: Any) -> None:
    traffic = Traffic()
    traffic.average_gradients(many_parameters().parameters(), processes.count)
    assert traffic.calls["all_reduce"] == 3
    assert processes.run(sent_by_many_parameters)[0] == traffic


def sent_by_many_parameters() -> Traffic:
    """Return what averages the gradients of a model of 36 MiB."""
    return averaged_gradients(many_parameters(), lambda model: model(torch.ones(1, 1024)).sum())


def many_parameters() -> nn.Module:
    """Return layers of 4 MiB each."""
    return nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(9)))


def _plain(traffic: Traffic) -> tuple[dict[str, int], dict[str, int]]:
    return dict(traffic.calls), dict(traffic.sent)


def test_activations_by_hand() -> None:
    case = Case("MLP", lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), [(5, 4)])
    with torch.device("meta"):
        _, kept = count_step(case, case.build())
    assert kept == 4 * 5 * (4 + 8)  # the input and what tanh returns, which two layers need


def test_fewer_faces_than_processes() -> None:
    ways = [cost.way for cost in costs(SMALL["DLWP"], [8])]
    assert ways == ["ddp", "fsdp"]


def test_latency_and_bandwidth_of_exact_times() -> None:
    sizes = [2**exponent for exponent in range(10, 30, 3)]
    times = [Time("pair", 2, size, 2e-5 + size / 3e11) for size in sizes]
    times += [Time("pair", 4, size, size / 1e9) for size in sizes]
    two, four = fit(times)
    assert two.latency_s == pytest.approx(2e-5)
    assert two.bytes_per_s == pytest.approx(3e11)
    assert four.latency_s == pytest.approx(0, abs=1e-12)
    assert four.bytes_per_s == pytest.approx(1e9)
    assert closest([two, four], "pair", 3) == two
    assert closest([two, four], "pair", 8) == four
    assert closest([four], "pair", 2) == four
    assert closest([two], "all_reduce", 2) is None


def test_time_of_a_step() -> None:
    calls, sent = {"all_reduce": 3, "all_to_all": 1}, {"all_reduce": 10**9, "all_to_all": 0}
    cost = Cost("it", "ddp", 2, 1, 1, 1, calls, sent)
    links = [Link("all_reduce", 2, 1e-3, 1e9), Link("all_to_all", 2, 5e-3, 1e9)]
    assert seconds(cost, links) == pytest.approx(1.008)
    assert seconds(cost, links[:1]) is None
    assert needed(links, 8, calls, sent) == pytest.approx(1.008)
    assert seconds(Cost(**vars(cost) | {"gpus": 64}), links) is None


def test_tables_of_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    _, rest = text.split(BEGIN)
    assert rest.split(END)[0].strip() == tables(read_costs(COSTS), read_links()).strip()


def test_costs_of_the_guide() -> None:
    (case,) = (case for case in CASES if case.name == "AFNO")
    stored = [cost for cost in read_costs(COSTS) if cost.case == case.name]
    assert costs(case, [2, 4, 8, 64]) == stored


@pytest.mark.slow
def test_all_costs_of_the_guide() -> None:
    assert [cost for case in CASES for cost in costs(case, [2, 4, 8, 64])] == read_costs(COSTS)


def test_table_is_written(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    main(["table", "--guide", str(guide)])
    text = guide.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("domain parallel") >= len(CASES)
