# SPDX-License-Identifier: Apache-2.0
"""Tensors that ``torch.save`` wrote inside a larger file, mapped into memory or only outlined.

PyTorch maps whole files only, by their path. This module does the same for a window of a file: it
unpickles with PyTorch's own restricted unpickler, whose names are private, and gives it storages
that lie in a private map of the file.
"""

import io
import mmap
import os
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from physicsnemo.core.archive import Member, list_zip
from physicsnemo.core.window import Window

_ALIGNMENT = 16  # bytes; of the largest type, complex128


class NotMappableError(Exception):
    """The content has to be read the ordinary way."""


def map_tensors(file: BinaryIO, window: Window) -> Any:
    """Return the object that a window of a local file holds, its tensors mapped.

    Writing to such a tensor changes the process's copy only, and replacing the file by another one
    leaves it as it is. Storages that are not aligned in the file are copied.

    Raises
    ------
    NotMappableError
        If the file system or the PyTorch release does not allow it, or the bytes are not in this
        machine's order.
    """
    if os.name == "nt":  # a mapped file could not be replaced there
        raise NotMappableError("not on Windows")
    records = _records(window)
    order = records.get("byteorder")
    if order is not None and _bytes(window, order) != b"little":
        raise NotMappableError("not written on a machine of this kind")
    try:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise NotMappableError(str(error)) from error
    return _unpickle(
        window, records, lambda record: _mapped(whole, window.offset + record.offset, record.size)
    )


def outline_tensors(window: Window) -> Any:
    """Return the object that a window of a file holds, its tensors on the meta device.

    There they have names, shapes and types, and may share storages, but no numbers are read.

    Raises
    ------
    NotMappableError
        If it is not what ``torch.save`` writes, or the PyTorch release does not allow it.
    """
    made: list[tuple[torch.UntypedStorage, int]] = []

    def reserve(record: Member) -> torch.UntypedStorage:
        made.append((torch.UntypedStorage(record.size, device="meta"), record.size))
        return made[-1][0]

    content = _unpickle(window, _records(window), reserve)
    for storage, size in made:
        if storage.nbytes() != size:  # a storage there grows to what tensors claim
            raise ValueError(f"a tensor of {storage.nbytes()} bytes claims a storage of {size}")
    return content


def _unpickle(
    window: Window, records: dict[str, Member], storage_of: Callable[[Member], torch.UntypedStorage]
) -> Any:
    """Return what ``torch.save`` wrote, given what makes a storage of a record."""
    if "data.pkl" not in records:
        raise NotMappableError("not written by torch.save")
    try:
        from torch._weights_only_unpickler import Unpickler
    except ImportError as error:
        raise NotMappableError(str(error)) from error
    unpickler = Unpickler(io.BytesIO(_bytes(window, records["data.pkl"])), encoding="utf-8")
    load_storage = _storage_loader(records, storage_of)
    unpickler.persistent_load = load_storage  # type: ignore[method-assign]
    return unpickler.load()


def _records(window: Window) -> dict[str, Member]:
    """Return the records of the inner archive, by their names below its one folder."""
    try:
        members = list_zip(window)
    except (zipfile.BadZipFile, OSError) as error:
        raise NotMappableError(str(error)) from error
    for member in members:
        if not member.is_plain or member.offset + member.size > window.size:
            raise ValueError(f"its record {member.name} is compressed or cut off")
    return {member.name.partition("/")[2]: member for member in members}


def _bytes(window: Window, record: Member) -> bytes:
    return window.part(record.offset, record.size).readall()


def _storage_loader(
    records: dict[str, Member], storage_of: Callable[[Member], torch.UntypedStorage]
) -> Callable[[Any], torch.storage.TypedStorage]:
    storages: dict[str, torch.UntypedStorage] = {}

    def load(identifier: Any) -> torch.storage.TypedStorage:
        _, storage_type, key, _, count = identifier
        untyped = storage_type is torch.UntypedStorage
        dtype = torch.uint8 if untyped else storage_type.dtype
        if key not in storages:
            record = records[f"data/{key}"]
            if record.size != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {record.size} bytes, not {count} of {dtype}")
            storages[key] = storage_of(record)
        return torch.storage.TypedStorage(wrap_storage=storages[key], dtype=dtype, _internal=True)

    return load


def _mapped(whole: mmap.mmap, offset: int, size: int) -> torch.UntypedStorage:
    # Storages over a buffer cannot grow, so that no description of a tensor can allocate memory.
    if not size:  # no buffer is empty; this one holds a number of any type, should it be saved
        return torch.frombuffer(bytearray(_ALIGNMENT), dtype=torch.uint8).untyped_storage()
    data = torch.frombuffer(whole, dtype=torch.uint8, count=size, offset=offset)
    if data.data_ptr() % _ALIGNMENT:
        data = torch.frombuffer(bytearray(whole[offset : offset + size]), dtype=torch.uint8)
    return data.untyped_storage()
