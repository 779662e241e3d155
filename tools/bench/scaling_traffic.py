# SPDX-License-Identifier: Apache-2.0
"""What the steps that ``tools.bench.scaling`` times send and compute, counted without any GPU.

As in :mod:`tools.bench.traffic`, but in bfloat16 as on GPUs: which type is exchanged depends on
what autocast chooses, and so tensors are not on the meta device, which has no autocast, but
pretended ones of a processor.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from physicsnemo.models.sfno import SphericalGrid, _sht
from physicsnemo.nn.fourier import transforms
from physicsnemo.nn.fourier.choice import prefer_matmul
from tools.bench.scaling_cases import Inputs, Problem, divide, loss_of
from tools.bench.traffic import Counting, Traffic, pretended

MATMUL_MODES = 256  # up to so many, a GPU transforms by a product: see physicsnemo.nn.fourier


@dataclass(frozen=True)
class Exchange:
    """What one process of a step sends and computes.

    Attributes
    ----------
    case, way, gpus, rows
        Which step, as in :class:`tools.bench.scaling.Row`.
    operations
        Floating-point operations of matrix products and convolutions, and of Fourier transforms
        those of products that take about as long.
    calls, sent, largest
        Collectives by kind; see :class:`tools.bench.traffic.Traffic`.
    """

    case: str
    way: str
    gpus: int
    rows: int
    operations: int
    calls: dict[str, int]
    sent: dict[str, int]
    largest: dict[str, int]


def count(problem: Problem, way: str, gpus: int) -> Exchange:
    """Count one way of one problem: of the process in the middle, in a step in bfloat16."""
    found = _passes(problem, "alone", 1) if way == "ddp" else _passes(problem, way, gpus)
    traffic, operations, parameters = deepcopy(found[0]), *found[1:]
    if way == "ddp" or way.startswith("domain"):
        traffic.average_gradients(parameters, gpus)
    counts = (dict(it) for it in (traffic.calls, traffic.sent, traffic.largest))
    return Exchange(problem.name, way, gpus, problem.rows_of(way, gpus), operations, *counts)


@cache
def _passes(problem: Problem, way: str, gpus: int) -> tuple[Traffic, int, list[Tensor]]:
    """Return what forward and backward pass send, their operations, and the parameters."""
    rows = problem.rows_of(way, gpus)
    with pretended(gpus):
        mesh = init_device_mesh("cpu", (gpus,))
        with torch.device("meta"), legendre_functions_without_values():
            model, inputs = problem.model(rows), problem.sample(rows)
        model, inputs = divide(model, inputs, way, mesh, torch.bfloat16)
        with FakeTensorMode(allow_non_fake_inputs=True):  # indices of graphs have values
            model.to_empty(device="cpu")
            inputs = pytree.tree_map_only(Tensor, _without_values, inputs)
            return *counted_step(model, inputs), [*model.parameters()]


def _without_values(x: Tensor) -> Tensor:
    return torch.empty_like(x, device="cpu") if x.is_meta else x


@contextmanager
def legendre_functions_without_values() -> Iterator[None]:
    """Give models tables of Legendre functions that have their shape alone.

    SFNO computes them on the meta device too, which takes minutes for the latitudes of eight GPUs.
    """

    def functions(grid: SphericalGrid, lmax: int, mmax: int) -> Tensor:
        device = torch.get_default_device()
        return torch.empty(mmax, grid.nlat, lmax, dtype=torch.float64, device=device)

    def transform(grid: SphericalGrid, lmax: int, mmax: int) -> Tensor:
        return functions(grid, lmax, mmax).mT

    with patch.multiple(_sht, _legendre_functions=functions, _legendre_transform=transform):
        yield


def counted_step(model: nn.Module, inputs: Inputs) -> tuple[Traffic, int]:
    """Return what forward and backward pass of a process's part send, and their operations."""
    operations = FlopCounterMode(display=False, custom_mapping=TRANSFORMS)
    with as_on_gpus(), Counting() as counting, operations:
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model(*inputs))
        loss.backward()
    return counting.traffic, operations.get_total_flops()


def _transform(shape: torch.Size, axes: list[int], *_: Any, **__: Any) -> int:
    """Return operations of products of the size at which these take as long as transforms."""
    return 4 * MATMUL_MODES * shape.numel() * len(axes)


def _complex_transform(shape: torch.Size, axes: list[int], *_: Any, **__: Any) -> int:
    return 2 * _transform(shape, axes)


TRANSFORMS = {
    torch.ops.aten._fft_r2c: _transform,
    torch.ops.aten._fft_c2r: _transform,
    torch.ops.aten._fft_c2c: _complex_transform,
}


@contextmanager
def as_on_gpus() -> Iterator[None]:
    """Let autocast on processors choose what it chooses on GPUs, where these models exchange it.

    On GPUs it computes layer norms in single precision, and there are more Fourier transforms by
    matrix products, which are in half precision.
    """

    def layer_norm(*args: Any, **kwargs: Any) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = pytree.tree_map_only(Tensor, Tensor.float, (args, kwargs))
        return plain(*args, **kwargs)

    def choose(n: int, kept: int, device_type: str) -> bool:
        return prefer_matmul(n, kept, "cuda")

    plain = functional.layer_norm
    with (
        patch.object(functional, "layer_norm", layer_norm),
        patch.object(transforms, "prefer_matmul", choose),
    ):
        yield
