# SPDX-License-Identifier: Apache-2.0
"""States with sharded tensors, of which each process has a part.

They are written by the first process, in the format of ``torch.save``, while all of them gather one
tensor after the other; memory is needed for one whole tensor. A process reads its part of a tensor
from a file by itself.
"""

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeGuard

import torch

from physicsnemo.core.format.gathering import Gathering

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_PROTOCOL = 2  # that of torch.save


def is_sharded(value: Any) -> "TypeGuard[DTensor]":
    """Tell whether a value is a tensor that is spread over processes, without importing much."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def is_sharded_model(model: torch.nn.Module) -> bool:
    """Tell whether tensors of a model are spread over processes, gathered for now or not."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and any(isinstance(it, fsdp.FSDPModule) for it in model.modules()):
        return True
    return any(map(is_sharded, (*model.parameters(), *model.buffers())))


@dataclass(frozen=True)
class Deferred:
    """A tensor that is read when it is written, and then forgotten."""

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]

    def numel(self) -> int:
        """Return the number of its elements."""
        return self.shape.numel()


class GatheredState:
    """A state whose sharded tensors are whole in a file.

    All processes make one of the same state; the first one writes it, the others take part.

    Parameters
    ----------
    state
        Dictionaries and lists of tensors and plain values.
    """

    def __init__(self, state: Any) -> None:
        buffer = io.BytesIO()
        pickler = _Pickler(buffer)
        pickler.dump(state)
        self._pickle, self._storages = buffer.getvalue(), pickler.storages
        self._left: list[DTensor | Deferred] = [
            it for it in self._storages.values() if not isinstance(it, torch.UntypedStorage)
        ]
        self._largest = max((it.numel() * it.dtype.itemsize for it in self._left), default=0)

    def write(self, file: IO[bytes]) -> None:
        """Write the state, as ``torch.save`` would that of a model which is not sharded."""
        with torch.serialization._open_zipfile_writer(file) as archive:
            alignment = str(torch.serialization._get_storage_alignment())
            for name, content in (
                ("data.pkl", self._pickle),
                (".format_version", "1"),
                (".storage_alignment", alignment),
                ("byteorder", sys.byteorder),
            ):
                archive.write_record(name, content, len(content))
            gathering = Gathering(self._largest)
            for key, held in self._storages.items():
                if isinstance(held, torch.UntypedStorage):
                    storage, size = held.cpu(), held.nbytes()
                else:
                    storage, size = _storage(self._next(gathering))
                archive.write_record(f"data/{key}", storage, size)
                del storage  # before the next one is gathered

    def take_part(self) -> None:
        """Gather what has not been gathered yet, since the other processes do.

        Raises
        ------
        Exception
            The first one, when all is gathered.
        """
        failure: Exception | None = None
        gathering = Gathering(self._largest)
        while self._left:
            try:
                self._next(gathering)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _next(self, gathering: Gathering) -> torch.Tensor:
        tensor = self._left.pop(0)
        return tensor.read() if isinstance(tensor, Deferred) else gathering.gather(tensor)


def take_part_in(states: Iterable[GatheredState]) -> None:
    """Let the other processes gather what this one, which has failed, does not need any more."""
    for state in states:
        with suppress(Exception):
            state.take_part()


def part_like(own: "DTensor", whole: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a whole tensor: a view of it, placed as another one is."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(
        own.shape, own.device_mesh, own.placements
    )
    part = whole
    for axis, (size, start) in enumerate(zip(shape, offset, strict=True)):
        part = part.narrow(axis, min(start, whole.shape[axis]), size)
    return part


def placed_like(own: "DTensor", whole: torch.Tensor) -> "DTensor":
    """Return a whole tensor, which every process has, placed as another one is."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part_like(own, whole).contiguous(),
        own.device_mesh,
        own.placements,
        run_check=False,
        shape=own.shape,
        stride=own.stride(),
    )


@dataclass(frozen=True)
class _Storage:
    """What stands for the memory of a gathered tensor in a pickle."""

    key: str
    kind: type
    size: int


class _Pickler(pickle.Pickler):
    """Pickles as ``torch.save`` does, sharded tensors as if they were whole."""

    def __init__(self, buffer: IO[bytes]) -> None:
        super().__init__(buffer, protocol=_PROTOCOL)
        self.storages: dict[str, DTensor | Deferred | torch.UntypedStorage] = {}
        self._keys: dict[tuple[int, int], str] = {}

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Deferred):
            identity: tuple[int, int] = id(value), 0
        elif is_sharded(value):
            local = value.to_local()
            identity = local.untyped_storage()._cdata, int(local.storage_offset())
        else:
            return NotImplemented
        kind = torch.empty(0, dtype=value.dtype)._typed_storage()._pickle_storage_type()
        storage = _Storage(self._key(identity, value), getattr(torch, kind), value.numel())
        stride = torch.empty(value.shape, device="meta").stride()
        size = tuple(value.shape)
        return torch._utils._rebuild_tensor_v2, (storage, 0, size, stride, False, OrderedDict())

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            return "storage", value.kind, value.key, "cpu", value.size
        if not isinstance(value, torch.storage.TypedStorage):
            return None
        storage = value._untyped_storage
        key = self._key((storage._cdata, 0), storage)
        return "storage", getattr(torch, value._pickle_storage_type()), key, "cpu", value._size()

    def _key(
        self, identity: tuple[int, int], held: "DTensor | Deferred | torch.UntypedStorage"
    ) -> str:
        key = self._keys.setdefault(identity, str(len(self._keys)))
        self.storages.setdefault(key, held)
        return key


def _storage(tensor: torch.Tensor) -> tuple[torch.UntypedStorage, int]:
    """Return a storage that begins with a tensor, row by row, and the size of that."""
    whole = tensor.detach().contiguous().cpu()
    if whole.storage_offset():
        whole = whole.clone()
    return whole.untyped_storage(), whole.nbytes
