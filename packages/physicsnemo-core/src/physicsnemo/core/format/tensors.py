# SPDX-License-Identifier: Apache-2.0
"""State dicts in the format of ``torch.save``, as a part of a larger file.

Reading has two steps. The pickle is interpreted, and what it says of tensors is checked as a whole,
before memory is taken for any of them; the numbers are then read straight into the tensors, or
mapped. ``torch.load`` would allocate as it goes, and need a file of its own.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch

from physicsnemo.core.format.archive import ZIP_SIGNATURE, Member, first_damaged, list_zip
from physicsnemo.core.format.descriptions import (
    NAMES,
    Sparse,
    Storage,
    Strided,
    check_state,
    storage_of,
)
from physicsnemo.core.format.file_slice import FileSlice
from physicsnemo.core.format.pickles import read_pickle
from physicsnemo.core.format.sharded import GatheredState

_ALIGNMENT = 16  # bytes; of the largest type, complex128
_MAX_PICKLE, _PICKLE_PER_STORAGE = 2**20, 2**12  # bytes
_MAX_OLD_PICKLE = 2**24
_OLD_SIGNATURE = 0x1950A86A20F9469CFC6C

MakeStorage = Callable[[Member], torch.UntypedStorage]


class StateFile:
    """A state dict as ``torch.save`` wrote it; described when it is opened, read on demand.

    Parameters
    ----------
    file
        The bytes that hold it, of a larger file.

    Raises
    ------
    Exception
        If it is damaged or holds anything else; of many types.
    """

    def __init__(self, file: FileSlice) -> None:
        self._file = file
        start = file.part(0, len(ZIP_SIGNATURE)).readall()
        self._members = list_zip(file) if start == ZIP_SIGNATURE else []
        describe = _describe if self._members else _describe_old
        self._state, self._places, self._byte_order = describe(file, self._members)
        check_state(self._state)

    def outline(self) -> dict[str, Any]:
        """Return the state with its tensors on the meta device."""
        return self._made(lambda place: torch.UntypedStorage(place.size, device="meta"))

    def read(self) -> dict[str, Any]:
        """Return the state with its tensors in memory."""
        return self._made(self._read)

    def mmap(self, file: IO[bytes]) -> dict[str, Any]:
        """Return the state with its tensors mapped from the file, as private copies on write.

        Storages of another byte order or alignment than memory needs are read instead.
        """
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

        def make(place: Member) -> torch.UntypedStorage:
            if not place.size or self._byte_order != sys.byteorder:
                return self._read(place)
            start = self._file.offset + place.offset
            data = torch.frombuffer(whole, dtype=torch.uint8, count=place.size, offset=start)
            return self._read(place) if data.data_ptr() % _ALIGNMENT else data.untyped_storage()

        return self._made(make)

    def first_damaged(self) -> str | None:
        """Return the name of a part that differs from its checksum, None if there is none."""
        return first_damaged(self._file, self._members)  # type: ignore[arg-type]

    def _read(self, place: Member) -> torch.UntypedStorage:
        storage = torch.UntypedStorage(place.size)
        if place.size:
            self._file.part(place.offset, place.size).read_whole(_memory(storage))
        return storage

    def _made(self, make: MakeStorage) -> dict[str, Any]:
        storages: dict[str, torch.UntypedStorage] = {}

        def numbers(storage: Storage) -> torch.UntypedStorage:
            if storage.key not in storages:
                made = make(self._places[storage.key])
                if self._byte_order != sys.byteorder and made.device.type != "meta":
                    made.byteswap(storage.dtype)
                storages[storage.key] = made
            return storages[storage.key]

        state: dict[str, Any] = _made(self._state, numbers)
        return state


def write_state(state: Mapping[str, Any] | GatheredState, file: IO[bytes]) -> None:
    """Write a state to an open file as ``torch.save`` does.

    Raises
    ------
    BaseException
        What writing to the file raises, which PyTorch would replace by an error of its own.
    """
    target = _Target(file)
    try:
        if isinstance(state, GatheredState):
            state.write(target)  # type: ignore[arg-type]  # it needs no more of a file
        else:
            torch.save(state, target)  # type: ignore[arg-type]
    except BaseException as error:
        if target.error is None or error is target.error:
            raise
        raise target.error from None


class _Target:
    """A file that keeps the first exception of its writing, and writes nothing after it.

    ``torch.save`` goes on when a write fails, and in the end raises an error that hides the first,
    as that of a full disk.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.error = file, None  # type: IO[bytes], BaseException | None
        self.tell, self.flush = file.tell, file.flush

    def write(self, data: Any) -> int:
        if self.error is not None:
            raise self.error
        try:
            return self._file.write(data)
        except BaseException as error:
            self.error = error
            raise


def _describe(file: FileSlice, members: list[Member]) -> tuple[Any, dict[str, Member], str]:
    records = _records(file, members)
    own = {key: record for key, record in records.items() if key.startswith("data/")}
    if "data.pkl" not in records:
        raise ValueError("it is not what torch.save writes")
    limit = _MAX_PICKLE + _PICKLE_PER_STORAGE * len(own)
    if records["data.pkl"].size > limit:
        raise ValueError(
            f"{len(own)} storages are described in {records['data.pkl'].size} bytes, at most "
            f"{limit} are read"
        )
    places: dict[str, Member] = {}

    def load(identifier: Any) -> Storage:
        storage = storage_of(identifier)
        places[storage.key] = _checked(storage, own.get(f"data/{storage.key}"))
        return storage

    state, _ = read_pickle(_content(file, records["data.pkl"]), 0, NAMES, load)
    order = "little"
    if (written := records.get("byteorder")) is not None:
        order = _content(file, written).decode() if written.size < 10 else "unknown"
    if order not in ("little", "big"):
        raise ValueError("its byte order is neither little nor big")
    return state, places, order


def _describe_old(file: FileSlice, members: list[Member]) -> tuple[Any, dict[str, Member], str]:
    """Read what PyTorch wrote before its release 1.6: five pickles, then the storages."""
    data = file.part(0, min(file.size, _MAX_OLD_PICKLE)).readall()
    storages: dict[str, Storage] = {}

    def load(identifier: Any) -> Storage:
        storage = storage_of(identifier)
        return storages.setdefault(storage.key, storage)

    content, place = list[Any](), 0
    for _ in range(5):
        value, place = read_pickle(data, place, NAMES, load)
        content.append(value)
        if content[0] != _OLD_SIGNATURE:
            raise ValueError("it is not what torch.save writes")
    _, _, system, state, keys = content
    places: dict[str, Member] = {}
    for key in keys:
        count = int.from_bytes(file.part(place, 8).readall(), "little")
        size = count * storages[key].itemsize
        places[key] = _checked(storages[key], Member(key, place + 8, size, True))
        place += 8 + size
        if place > file.size:
            raise ValueError(f"storage {key} is cut off")
    if lacking := storages.keys() - places.keys():
        raise ValueError(f"{len(lacking)} storages are missing")
    return state, places, "little" if system["little_endian"] else "big"


def _records(file: FileSlice, members: list[Member]) -> dict[str, Member]:
    """Return the records of the archive, by their names below its one folder."""
    records = {member.name.partition("/")[2]: member for member in members}
    for member in members:
        if not member.is_regular or member.offset + member.size > file.size:
            raise ValueError(f"its record {member.name[:100]} is compressed or cut off")
    if len(records) < len(members) or sum(member.size for member in members) > file.size:
        raise ValueError("its records overlap, or have one name")
    return records


def _checked(storage: Storage, place: Member | None) -> Member:
    if place is None:
        raise ValueError(f"storage {storage.key[:20]!r} is missing")
    if place.size != storage.count * storage.itemsize:
        raise ValueError(
            f"storage {storage.key} has {place.size} bytes, not {storage.count} numbers of "
            f"{storage.itemsize}"
        )
    return place


def _content(file: FileSlice, record: Member) -> bytes:
    return file.part(record.offset, record.size).readall()


def _made(value: Any, numbers: Callable[[Storage], torch.UntypedStorage]) -> Any:
    """Return a state with tensors where their descriptions stand."""
    if isinstance(value, Strided):
        return _strided(value, numbers(value.storage))
    if isinstance(value, Sparse):
        return _sparse(value, [_strided(part, numbers(part.storage)) for part in value.parts])
    if isinstance(value, dict):
        made = type(value)((key, _made(item, numbers)) for key, item in value.items())
        vars(made).update(vars(value)) if hasattr(value, "__dict__") else None
        return made
    if isinstance(value, (list, tuple)):
        return type(value)(_made(item, numbers) for item in value)
    return value


def _strided(it: Strided, storage: torch.UntypedStorage) -> torch.Tensor:
    tensor = torch.empty(0, dtype=it.dtype, device=storage.device)
    tensor.set_(storage, it.offset, it.shape, it.stride)
    if it.overlaps:  # elements of their own, for those that share memory would train as one
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    tensor = tensor.conj().resolve_conj() if it.is_conjugate else tensor
    return -tensor if it.is_negative else tensor


def _sparse(it: Sparse, parts: list[torch.Tensor]) -> torch.Tensor:
    check = not parts[0].is_meta
    if it.layout is torch.sparse_coo:
        indices, values = parts
        return torch.sparse_coo_tensor(
            indices, values, it.shape, is_coalesced=it.is_coalesced, check_invariants=check
        )
    compressed, plain, values = parts
    return torch.sparse_compressed_tensor(
        compressed, plain, values, it.shape, layout=it.layout, check_invariants=check
    )


def _memory(storage: torch.UntypedStorage) -> memoryview:
    """Return the memory of a storage, which must outlive it."""
    # Through ctypes, as a storage has no buffer protocol, and a NumPy view none for bfloat16.
    kind = ctypes.c_char * storage.nbytes()
    return memoryview(kind.from_address(storage.data_ptr())).cast("B")
