# SPDX-License-Identifier: Apache-2.0
"""Resource limits while a model is built from a file: modules and memory, by the file's weights.

A few bytes of arguments can mean a model of any size. While one is built from a file, PyTorch's
allocations are sized before they are made, so that a small file is refused before it fills the
memory. The limits hold in the thread that builds, and constructors notice nothing of them.
"""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.storable import strided_parts

# Modules that a file of few tensors may build, and for each tensor: many hold no weights.
_FREE_MODULES, _MODULES_PER_TENSOR = 2_000, 100
# Bytes of all tensors at a time: constants, such as tables of functions on a grid, stand in no
# file and may be far larger than the weights.
_FREE_MEMORY, _MEMORY_PER_BYTE = 2**30, 64
# What a call makes of less numbers than this is not worth sizing before.
_SMALL = 2**20


@contextmanager
def resource_limits(state: Mapping[str, Any], source: str) -> Iterator[None]:
    """Refuse to build, in this thread, what the weights of a file cannot mean.

    Parameters
    ----------
    state
        The weights. What they occupy counts, not the shapes that they claim.
    source
        The file's name, for error texts.

    Raises
    ------
    CheckpointError
        Inside, from whatever asks for more.
    """
    _install_hooks()
    budget, outer = _Budget(state, source), _building.budget
    _building.budget = budget
    try:
        with _Sizing(budget):
            yield
    finally:
        _building.budget = outer


class _Budget:
    """How much may be built for some weights, and how much has been."""

    def __init__(self, state: Mapping[str, Any], source: str) -> None:
        self._source = source
        tensors = (value for value in state.values() if isinstance(value, torch.Tensor))
        storages = (part.untyped_storage() for it in tensors for part in strided_parts(it))
        self._held = sum({storage._cdata: storage.nbytes() for storage in storages}.values())
        self._memory_limit = _FREE_MEMORY + _MEMORY_PER_BYTE * self._held
        self._module_limit = _FREE_MODULES + _MODULES_PER_TENSOR * len(state)
        self._modules = 0
        self._sizes: dict[StorageWeakRef, int] = {}
        self._memory = 0

    def count_module(self) -> None:
        self._modules += 1
        if self._modules > self._module_limit:
            raise CheckpointError(
                f"{self._source} asks for more than {self._module_limit} modules, for few weights"
            )

    def count(self, tensor: torch.Tensor) -> None:
        """Count the memory of a tensor, unless one that shares it has been counted."""
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference not in self._sizes:
            self._sizes[reference] = storage.nbytes()
            self._memory += storage.nbytes()
            self.check(0)

    def check(self, more: int) -> None:
        """Refuse so many bytes, beside those of tensors that are alive, if that is too much."""
        if self._memory + more <= self._memory_limit:
            return
        for reference in [reference for reference in self._sizes if reference.expired()]:
            self._memory -= self._sizes.pop(reference)
        if self._memory + more > self._memory_limit:
            raise CheckpointError(
                f"{self._source} asks for tensors of {self._memory + more} bytes, and holds "
                f"weights of {self._held} bytes; if you trust it, build the model yourself and "
                f"call its load()"
            )


class _Sizing(TorchDispatchMode):
    """Check what calls of PyTorch are about to allocate, and count what they have."""

    def __init__(self, budget: _Budget) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._budget = budget

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _makes_tensors(func):
            return func(*args, **kwargs)
        if _may_be_large(args, kwargs):
            self._budget.check(_bytes_of_result(func, args, kwargs))
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._budget.count(tensor)
        return result


@cache
def _makes_tensors(func: Any) -> bool:
    """Tell whether a function returns memory of its own, no view of what it was given."""
    return all(returned.alias_info is None for returned in func._schema.returns)


def _may_be_large(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Tell whether a result may hold many numbers, by all sizes among the arguments at once."""
    count = 1
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor):
            count *= max(leaf.numel(), 1)
        elif isinstance(leaf, float):  # which may be the step of a range
            return True
        elif isinstance(leaf, int):
            count *= max(abs(leaf), 1)
        if count > _SMALL:
            return True
    return False


def _bytes_of_result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return how many bytes a call will allocate, by making it on the meta device."""
    try:
        args, kwargs = pytree.tree_map_only(torch.Tensor, _on_meta, (args, kwargs))
        if "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("meta")}
        if "generator" in kwargs:
            kwargs = {**kwargs, "generator": None}
        return sum(
            math.prod(made.shape) * made.itemsize for made in _tensors(func(*args, **kwargs))
        )
    except Exception:  # a size that depends on values, or an error that the call itself will show
        return 0


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=torch.device("meta")
    )


def _tensors(result: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


class _Building(threading.local):
    """What the model that a thread is building may ask for, None where it builds none."""

    budget: _Budget | None = None


_building = _Building()


@cache
def _install_hooks() -> None:
    # Once and for good: PyTorch's hooks are those of all threads, which may be walking through
    # them, so they cannot be added and removed with each model.
    register_module_module_registration_hook(_count_module)


def _count_module(module: torch.nn.Module, name: str, child: torch.nn.Module) -> None:
    if _building.budget is not None:
        _building.budget.count_module()
