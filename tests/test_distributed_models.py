# SPDX-License-Identifier: Apache-2.0
"""Every registered model over two processes computes, saves and loads what one process does."""

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from physicsnemo.distributed import shard
from physicsnemo.testing import Case
from physicsnemo.utils import StaticCaptureTraining, load_checkpoint, save_checkpoint
from tools.cases import all_cases
from tools.workspace import ROOT

PROCESSES = ROOT / "packages" / "physicsnemo-distributed" / "tests" / "processes.py"
TOLERANCE = 1e-12  # of the largest number, or of 1
ROUNDING = 0.03  # of bfloat16, relative to the norm of an output
FEW = ("Pix2Pix", "MeshGraphNet", "GraphCastNet", "HEALPixRecUNet", "One2ManyRNN", "FNO", "SFNO")
UNITS = ("block", "leaf", "model")


@cache
def cases() -> dict[str, Case]:
    """Return the cases of all models: the first by the model's name, the others by their own."""
    found: dict[str, Case] = {}
    for case in all_cases():
        first = str(case).partition("-")[0]
        found[str(case) if first in found else first] = case
    return found


MODELS = [name for name in cases() if "-" not in name]


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    pair = runpy.run_path(str(PROCESSES))["Processes"](timeout=300.0)
    yield pair
    pair.stop()


def each(names: Any) -> pytest.MarkDecorator:
    """Return a mark that runs a few models always, and the others in a session of their own."""
    marked = [
        pytest.param(name, marks=() if name in FEW else pytest.mark.distributed) for name in names
    ]
    return pytest.mark.parametrize("name", marked)


@each(MODELS)
@pytest.mark.parametrize(
    "units", [*UNITS[:1], *(pytest.param(it, marks=pytest.mark.distributed) for it in UNITS[1:])]
)
@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recompute"])
def test_sharded(processes: Any, name: str, units: str, recompute: bool):
    processes.run(check_sharded, name, units, recompute)


@pytest.mark.distributed
@pytest.mark.parametrize("units", UNITS[:2])
@pytest.mark.parametrize("name", [it for it in cases() if it not in MODELS])
def test_sharded_with_other_options(processes: Any, name: str, units: str):
    processes.run(check_sharded, name, units, False)


@each(MODELS)
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_sharded_in_lower_precision(processes: Any, name: str, autocast: bool):
    processes.run(check_lower_precision, name, autocast)


@each(MODELS)
def test_built_without_memory_and_loaded(processes: Any, name: str):
    processes.run(check_meta, name)


@each(MODELS)
def test_saved_in_shards_and_loaded_by_one(processes: Any, name: str, tmp_path: Path):
    processes.run(check_resharding, name, str(tmp_path))


@pytest.mark.distributed
@pytest.mark.parametrize("name", MODELS)
def test_captured_in_data_parallel(processes: Any, name: str):
    processes.run(check_captured, name)


def check_sharded(name: str, units: str, recompute: bool) -> None:
    """Compare outputs and gradients of a sharded model with those of one process."""
    case, rank, size = cases()[name], dist.get_rank(), dist.get_world_size()
    alone, expected = case.build().double(), []
    for other in range(size):
        outputs = called(alone, case, other)
        (loss_of(outputs) / size).backward()
        expected.append([it.detach() for it in outputs])
    model = case.build().double()
    shard(model, init_device_mesh("cpu", (size,)), units=units, recompute=recompute)
    outputs = called(model, case, rank)
    loss_of(outputs).backward()
    for place, (got, right) in enumerate(zip(outputs, expected[rank], strict=True)):
        check_close(f"output {place}", got, right)
    check_same_parameters(model, alone, sharded=True)


def check_lower_precision(name: str, autocast: bool) -> None:
    """Compare outputs of a model whose blocks compute in bfloat16 with those in float32."""
    case, rank, size = cases()[name], dist.get_rank(), dist.get_world_size()
    expected = called(case.build(), case, rank)
    model = case.build()
    shard(model, init_device_mesh("cpu", (size,)), precision=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = [it.float() for it in called(model, case, rank)]
    for place, (got, right) in enumerate(zip(outputs, expected, strict=True)):
        error = (got - right).norm().item() / max(right.norm().item(), 1e-30)
        assert error < ROUNDING, f"output {place} differs by {error:.1e}"
    loss_of(outputs).backward()
    for key, parameter in model.named_parameters():
        gradient = parameter.grad
        assert parameter.dtype == torch.float32, key
        assert gradient is None or whole(gradient).isfinite().all(), f"gradient of {key}"


def check_meta(name: str) -> None:
    """Compare a model that has never been whole in memory with one process, after loading."""
    case, rank = cases()[name], dist.get_rank()
    alone = case.build(seed=1)
    with shared_folder() as folder:
        if rank == 0:
            alone.save(f"{folder}/alone.mdlus")
        with torch.device("meta"):
            model = case.build()
        shard(model, init_device_mesh("cpu", (dist.get_world_size(),)))
        assert all(it.is_meta for it in model.parameters())
        model.to_empty(device="cpu")
        dist.barrier()
        model.load(f"{folder}/alone.mdlus")
    # Not in double precision: constants are single's as the model's are.
    for got, right in zip(called(model, case, rank), called(alone, case, rank), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-5 * right.abs().max().item())


def check_resharding(name: str, folder: str) -> None:
    """Train in two processes, save their shards, and load them in one; and the other way."""
    case, rank = cases()[name], dist.get_rank()
    model = shard(case.build().double(), init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of(called(model, case, rank)).backward()
    optimizer.step()
    save_checkpoint(f"{folder}/shards", model, optimizer, epoch=0, layout="shards")
    save_checkpoint(f"{folder}/whole", model, optimizer, epoch=0)
    for layout in ("shards", "whole"):
        alone = case.build(seed=1).double()
        its_optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-3)
        load_checkpoint(f"{folder}/{layout}", alone, its_optimizer, rank=0)
        again = shard(case.build(seed=2).double(), init_device_mesh("cpu", (2,)))
        optimizer_again = torch.optim.AdamW(again.parameters(), lr=1e-3)
        load_checkpoint(f"{folder}/{layout}", again, optimizer_again)
        check_same_parameters(model, alone)
        check_same_parameters(again, alone)
        for one, other in ((optimizer, its_optimizer), (optimizer_again, its_optimizer)):
            check_same_state(one, other)


def check_captured(name: str) -> None:
    """Compare a captured step of data-parallel training with one process."""
    case, rank, size = cases()[name], dist.get_rank(), dist.get_world_size()
    alone = case.build().double()
    for other in range(size):
        (loss_of(called(alone, case, other)) / size).backward()
    model = case.build().double()
    wrapper = DistributedDataParallel(model, find_unused_parameters=bool(case.dead))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    @StaticCaptureTraining(wrapper, optimizer, use_amp=False, use_graphs=False)
    def step() -> Tensor:
        return loss_of(called(wrapper, case, rank))

    step()
    check_same_parameters(model, alone)


def called(model: nn.Module, case: Case, rank: int) -> list[Tensor]:
    """Call a model with inputs of its precision that differ from rank to rank."""
    own = next(model.parameters()).dtype

    def changed(value: Any) -> Any:
        return value.to(own) * (1 + 0.25 * rank) if is_floating(value) else value

    inputs = pytree.tree_map(changed, case.inputs())
    torch.manual_seed(rank)
    output = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return [it for it in pytree.tree_leaves(output) if is_floating(it)]


def loss_of(outputs: list[Tensor]) -> Tensor:
    """Return a loss that tells all numbers apart."""
    total = outputs[0].new_zeros(())
    for it in outputs:
        weights = torch.linspace(0.5, 1.5, it.numel(), dtype=it.dtype).view_as(it)
        total = total + (it * weights).square().mean()
    return total


def check_same_parameters(model: nn.Module, alone: nn.Module, sharded: bool = False) -> None:
    """Compare parameters and gradients by name."""
    own = dict(model.named_parameters())
    for key, parameter in alone.named_parameters():
        assert not sharded or hasattr(own[key], "full_tensor"), f"{key} is not sharded"
        check_close(key, whole(own[key]).detach(), parameter.detach())
        if parameter.grad is None:
            continue
        assert own[key].grad is not None, f"there is no gradient of {key}"
        check_close(f"gradient of {key}", whole(own[key].grad), parameter.grad)


def check_same_state(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    """Compare the states of two optimizers exactly."""
    states = [optimizer.state_dict()["state"] for optimizer in (one, other)]
    assert states[0].keys() == states[1].keys()
    for place, values in states[0].items():
        for key, value in values.items():
            assert torch.equal(whole(value), states[1][place][key]), (place, key)


def check_close(name: str, got: Tensor, expected: Tensor) -> None:
    """Raise AssertionError unless two tensors are equal up to rounding."""
    if got.numel():
        error = (got - expected).abs().max().item()
        scale = max(1.0, expected.abs().max().item())
        assert error <= TOLERANCE * scale, f"{name} differs by {error:.1e} of {scale:.1e}"


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor if it is sharded."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def is_floating(value: Any) -> bool:
    """Tell whether a value is a tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


@contextmanager
def shared_folder() -> Iterator[str]:
    """Yield a folder of all processes."""
    with TemporaryDirectory() as own:
        folders = [own]
        dist.broadcast_object_list(folders)
        yield folders[0]
        dist.barrier()
