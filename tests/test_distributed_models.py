# SPDX-License-Identifier: Apache-2.0
"""Every registered model, sharded over two processes, computes what it does in one."""

import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.utils import _pytree as pytree

from physicsnemo.distributed import shard
from tools.cases import all_cases

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-12  # of the largest number


@cache
def cases() -> dict[str, Any]:
    return {str(case): case for case in all_cases()}


def floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def inputs_of(case: Any, rank: int) -> Any:
    """Return inputs in double precision, other ones for each rank."""
    scale = 1 + 0.25 * rank
    return pytree.tree_map(lambda it: it.double() * scale if floating(it) else it, case.inputs())


def called(model: torch.nn.Module, inputs: Any) -> list[torch.Tensor]:
    output = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return [it for it in pytree.tree_leaves(output) if floating(it)]


def loss_of(outputs: list[torch.Tensor]) -> torch.Tensor:
    return sum(
        (
            (it * torch.linspace(0.5, 1.5, it.numel(), dtype=it.dtype).view_as(it)).square().mean()
            for it in outputs
        ),
        torch.zeros((), dtype=torch.float64),
    )


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def check_close(name: str, got: torch.Tensor, expected: torch.Tensor) -> None:
    error = (got - expected).abs().max().item() if got.numel() else 0.0
    scale = max(1.0, expected.abs().max().item() if got.numel() else 0.0)
    if not error <= TOLERANCE * scale:
        raise AssertionError(f"{name} differs by {error:.1e} of {scale:.1e}")


def check_sharded(name: str, units: str, recompute: bool) -> None:
    """Compare outputs and gradients of a sharded model with those of one process."""
    case, rank, size = cases()[name], dist.get_rank(), dist.get_world_size()
    alone = case.build().double()
    expected = []
    for other in range(size):
        torch.manual_seed(other)
        outputs = called(alone, inputs_of(case, other))
        (loss_of(outputs) / size).backward()
        expected.append([it.detach() for it in outputs])
    model = case.build().double()
    shard(model, init_device_mesh("cpu", (size,)), units=units, recompute=recompute)
    torch.manual_seed(rank)
    outputs = called(model, inputs_of(case, rank))
    loss_of(outputs).backward()
    for place, (got, right) in enumerate(zip(outputs, expected[rank], strict=True)):
        check_close(f"output {place}", got, right)
    own = dict(model.named_parameters())
    for key, parameter in alone.named_parameters():
        assert hasattr(own[key], "full_tensor"), f"{key} is not sharded"
        check_close(key, whole(own[key]).detach(), parameter.detach())
        if parameter.grad is None:
            assert own[key].grad is None or not whole(own[key].grad).any(), key
        else:
            assert own[key].grad is not None, f"no gradient of {key}"
            check_close(f"gradient of {key}", whole(own[key].grad), parameter.grad)


@pytest.fixture(scope="module")
def processes():
    kind = runpy.run_path(str(ROOT / "packages/physicsnemo-distributed/tests/processes.py"))
    pair = kind["Processes"]()
    yield pair
    pair.stop()


@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recompute"])
@pytest.mark.parametrize("units", ["block", "leaf", "model"])
@pytest.mark.parametrize("name", cases())
def test_sharded(processes, name, units, recompute):
    processes.run(check_sharded, name, units, recompute)
