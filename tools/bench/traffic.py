# SPDX-License-Identifier: Apache-2.0
"""What training steps send between GPUs and keep on each, counted without any GPU.

A model without weights (on the meta device) takes a real step, as one of so many processes that a
process group of PyTorch pretends; each collective is counted and none is made. So the numbers are
those of the rules by which models are divided, whatever their number of processes.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import _compute_bucket_assignment_by_size
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from physicsnemo.distributed import distribute, shard, split

FLOAT = 4  # bytes of a number
ADAM = 4  # of a parameter there are the value, the gradient and two moments
BUCKETS = 2**20, 25 * 2**20  # about: bytes of DistributedDataParallel's first one, and of others
KINDS = {
    "allreduce_": "all_reduce",
    "_allgather_base_": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
    "alltoall_base_": "all_to_all",
    "broadcast_": "broadcast",
}


@dataclass
class Traffic:
    """What one process sends.

    Attributes
    ----------
    calls
        The number of collectives by kind: all_reduce, all_gather, reduce_scatter or all_to_all.
    sent
        Bytes that leave the process, by kind, of algorithms that send as little as possible: to
        reduce n bytes among N, 2 n (N - 1) / N; to gather or scatter n bytes, n (N - 1) / N; of
        an all_to_all, what is for others.
    largest
        The most that one collective of a kind sends.
    """

    calls: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    largest: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, sent: int) -> None:
        """Count a collective of a kind, and what it sends."""
        self.calls[kind] += 1
        self.sent[kind] += sent
        self.largest[kind] = max(self.largest[kind], sent)

    def average_gradients(self, parameters: Iterable[Tensor], size: int) -> None:
        """Count what DistributedDataParallel sends among so many processes.

        Gradients are in buckets, as from the second step on: those that are ready first, of the
        last parameters, in the first ones.
        """
        last_first = [*parameters][::-1]
        buckets, _ = _compute_bucket_assignment_by_size(last_first, list(BUCKETS))
        for bucket in buckets:
            averaged = bytes_of(last_first[index] for index in bucket)
            self.add("all_reduce", round(2 * averaged * (size - 1) / size))

    def total(self) -> int:
        """Return how many bytes are sent."""
        return sum(self.sent.values())


class Counting(TorchDispatchMode):
    """A context that counts the collectives of this thread, which are made as they would be."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.traffic = Traffic()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count a collective; see :class:`Traffic`."""
        if func.namespace == "c10d":
            kind = KINDS[func._schema.name.partition("::")[2]]
            self.traffic.add(kind, _sent(kind, args))
        return func(*args, **(kwargs or {}))


def _sent(kind: str, args: tuple[Any, ...]) -> int:
    if kind == "all_to_all":
        x, group, _, sizes = args[1:5]
        group = dist.ProcessGroup.unbox(group)
        own = sizes[group.rank()] if sizes else x.shape[0] // group.size()
        others: int = x[:1].numel() * (x.shape[0] - own) * x.element_size()
        return others
    group = dist.ProcessGroup.unbox(next(it for it in args if isinstance(it, torch.ScriptObject)))
    share = (group.size() - 1) / group.size()
    # Of a gathering the result, of a scattering what is scattered.
    x = args[1] if kind == "reduce_scatter" else args[0]
    tensors = pytree.tree_leaves(x)
    times = 2 if kind == "all_reduce" else 1
    return round(times * share * bytes_of(tensors))


@dataclass(frozen=True)
class Case:
    """A model and the shapes of a sample.

    Attributes
    ----------
    name
        What it is called.
    build
        Makes the model.
    shapes
        Of its inputs, which are in one precision.
    axes
        The axis of each input that domain parallelism divides, if not the model's usual one.
    listed
        Whether ``forward`` takes the inputs in a list.
    """

    name: str
    build: Callable[[], nn.Module]
    shapes: Sequence[tuple[int, ...]]
    axes: Sequence[int | None] = (None,)
    listed: bool = False

    def loss(self, model: nn.Module, inputs: Iterable[Tensor]) -> Tensor:
        """Return the sum of all outputs."""
        output = model(list(inputs)) if self.listed else model(*inputs)
        total: Tensor = sum(it.float().sum() for it in pytree.tree_leaves(output))
        return total


@dataclass(frozen=True)
class Cost:
    """What a training step costs each GPU, in single precision and with Adam.

    Attributes
    ----------
    case, way, gpus
        What it is: ``ddp``, ``fsdp``, or ``domain`` with averaged gradients. More than eight GPUs
        are divided in groups of eight, one sample each.
    parameters
        The number of the model's parameters.
    state_bytes
        Parameters, gradients, moments and constants; of DistributedDataParallel the buckets of
        gradients too, and of sharded models what no block has and the two largest blocks, whole.
    activation_bytes
        What the backward pass needs of the forward pass, if nothing is computed again.
    calls, sent
        Collectives and the bytes that they send, by kind; see :class:`Traffic`.
    """

    case: str
    way: str
    gpus: int
    parameters: int
    state_bytes: int
    activation_bytes: int
    calls: dict[str, int]
    sent: dict[str, int]


HOST = 8  # GPUs among which a sample is divided at most
WAYS = ("ddp", "fsdp", "domain")


def costs(case: Case, sizes: Iterable[int], ways: Iterable[str] = WAYS) -> list[Cost]:
    """Return what ways of dividing the work cost, but for those that the model refuses.

    Parameters
    ----------
    case
        The model.
    sizes
        Numbers of GPUs.
    ways
        Some of ``ddp``, ``fsdp`` and ``domain``.
    """
    whole = meta_model(case)
    parameters, constants = number_of_parameters(whole), bytes_of(whole.buffers())
    with pretended(1):
        _, activations = count_step(case, whole)
    averaged = FLOAT * (ADAM + 1) * parameters  # with buckets of gradients
    divided: dict[int, tuple[Traffic, int, int] | None] = {}
    found = []
    for size in sizes:
        for way in ways:
            traffic, state, kept = Traffic(), averaged + constants, activations
            if way == "fsdp":
                with pretended(size):
                    traffic, state = sharded(meta_model(case))
                state += constants
            if way == "domain":
                members = min(size, HOST)
                if members not in divided:
                    divided[members] = _divided(case, members)
                if (entry := divided[members]) is None:
                    continue
                traffic, state, kept = deepcopy(entry[0]), averaged + entry[1], entry[2]
            if way != "fsdp":
                traffic.average_gradients(whole.parameters(), size)
            sent = dict(traffic.calls), dict(traffic.sent)
            found.append(Cost(case.name, way, size, parameters, state, kept, *sent))
    return found


@contextmanager
def pretended(size: int) -> Iterator[None]:
    """Pretend to be one of so many processes, in the middle of them."""
    hook = sys.excepthook  # which each group wraps, to name its process
    dist.init_process_group("fake", store=FakeStore(), rank=size // 2, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()
        sys.excepthook = hook


def meta_model(case: Case) -> nn.Module:
    """Return the model without weights."""
    with torch.device("meta"):
        return case.build()


def count_step(case: Case, model: nn.Module) -> tuple[Traffic, int]:
    """Return what a step of a model sends, and what its backward pass needs, in bytes.

    The model is one without weights, which may be distributed.
    """
    kept: dict[int, Any] = {}
    weights = {it.untyped_storage()._cdata for it in [*model.parameters(), *model.buffers()]}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return x

    inputs = [torch.empty(shape, device="meta") for shape in case.shapes]
    if "_domain" in vars(model):
        inputs = [split(x, model, axis) for x, axis in zip(inputs, case.axes, strict=True)]
    with Counting() as counting:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = case.loss(model, inputs)
        activations = sum(storage.nbytes() for storage in kept.values())
        loss.backward()
    return counting.traffic, activations


def sharded(model: nn.Module) -> tuple[Traffic, int]:
    """Shard a model over all processes, and return what a step sends and a GPU holds, in bytes.

    Each unit is gathered for the forward and for the backward pass, the model itself once; all
    gradients are scattered.
    """
    size = dist.get_world_size()
    shard(model, init_device_mesh("cpu", (size,)))
    traffic, blocks = Traffic(), [0]
    rest = 0
    for unit in model.modules():
        if isinstance(unit, FSDPModule) and (whole := _padded_bytes(unit, size)):
            gathered = whole * (size - 1) // size
            for _ in range(1 if unit is model else 2):
                traffic.add("all_gather", gathered)
            traffic.add("reduce_scatter", gathered)
            if unit is model:
                rest = whole
            else:
                blocks.append(whole)
    state = ADAM * (rest + sum(blocks)) // size + rest + sum(sorted(blocks)[-2:])
    return traffic, state


def _padded_bytes(unit: nn.Module, size: int) -> int:
    """Return how large a unit's parameters are, padded such that all shards are equal."""
    found: dict[Any, None] = {}  # distributed tensors

    def visit(module: nn.Module) -> None:
        found.update(dict.fromkeys(module.parameters(recurse=False)))
        for child in module.children():
            if not isinstance(child, FSDPModule):
                visit(child)

    visit(unit)
    total = 0
    for parameter in found:
        shape, (placement,) = list(parameter.shape), parameter.placements
        shape[placement.dim] = -(-shape[placement.dim] // size) * size
        total += prod(shape) * FLOAT
    return total


def _divided(case: Case, size: int) -> tuple[Traffic, int, int] | None:
    """Return traffic, constants and activations of one process; None if the model refuses."""
    with pretended(size):
        try:
            model = distribute(meta_model(case), init_device_mesh("cpu", (size,)))
            traffic, activations = count_step(case, model)
        except ValueError:  # too few rows, windows or faces
            return None
        return traffic, bytes_of(model.buffers()), activations


def number_of_parameters(model: nn.Module) -> int:
    """Return how many numbers a model's parameters are."""
    return sum(it.numel() for it in model.parameters())


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the memory of tensors."""
    return sum(it.numel() * it.element_size() for it in tensors)
