# SPDX-License-Identifier: Apache-2.0
"""The ``.mdlus`` file: a container of weights, constructor arguments and metadata.

Version 0.1.0 is an uncompressed tar with the members ``model.pt`` (a state dict as ``torch.save``
writes it), ``args.json`` and ``metadata.json``; newer releases of the reference implementation
write a zip without compression with the same members. Both are read, and the tar is written unless
a zip is asked for. Nothing in a file is ever executed or imported.
"""

import json
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import fsspec

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.archive import ZIP_SIGNATURE, Member, list_tar, list_zip
from physicsnemo.core.format.atomic import atomic_write
from physicsnemo.core.format.file_slice import FileSlice
from physicsnemo.core.format.files import Url, fetched, is_local, locate, opened_in_parts
from physicsnemo.core.format.records import check_names, check_records
from physicsnemo.core.format.sharded import GatheredState
from physicsnemo.core.format.tensors import StateFile, write_state

EXTENSION = ".mdlus"
WEIGHTS, ARGUMENTS, METADATA = MEMBERS = ("model.pt", "args.json", "metadata.json")
EXAMPLE = "example.pt"  # besides, in some files
_MAX_JSON_BYTES = 4 * 2**20
_BLOCK = tarfile.BLOCKSIZE


class Checkpoint:
    """An open ``.mdlus`` file, read piece by piece.

    Attributes
    ----------
    name
        What the file is called in error texts.
    arguments
        Content of ``args.json``: at least ``__name__``, ``__module__`` and ``__args__``.
    metadata
        Content of ``metadata.json``.
    is_zip
        Whether the container is a zip, not a tar.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.name = file, name
        self._members = _find_members(file, name)
        for member in MEMBERS:
            if member not in self._members:
                raise CheckpointError(f"File '{member}' not found in checkpoint {name}")
        file.seek(0)
        self.is_zip = file.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE
        self.arguments = self._read_json(ARGUMENTS)
        self.metadata = self._read_json(METADATA)
        check_records(self.arguments, f"{ARGUMENTS} in {name}")
        self._states: dict[str, StateFile] = {}

    @property
    def has_example(self) -> bool:
        """Whether the file holds inputs of the model, and its outputs for them."""
        return EXAMPLE in self._members

    def example(self) -> dict[str, Any]:
        """Read the example as data only, to the CPU, and compare it with its checksums.

        Raises
        ------
        CheckpointError
            If it is damaged, or holds anything but tensors and plain data.
        """
        self._check_sums(EXAMPLE)
        example: dict[str, Any] = self._tensors(EXAMPLE, StateFile.read)
        return example

    def state_dict(self, mmap: bool = False) -> dict[str, Any]:
        """Read the weights as data only, to the CPU.

        Parameters
        ----------
        mmap
            Whether tensors are mapped from the file instead of read. The file must then stay as it
            is for as long as they live.

        Raises
        ------
        CheckpointError
            If ``model.pt`` is damaged or holds anything but a dictionary of tensors.
        """
        state: dict[str, Any] = self._tensors(
            WEIGHTS, lambda state: state.mmap(self._file) if mmap else state.read()
        )
        return state

    def outline(self) -> dict[str, Any]:
        """Return the weights on the meta device: names, shapes and dtypes, with no number read.

        Raises what :meth:`state_dict` does.
        """
        outline: dict[str, Any] = self._tensors(WEIGHTS, StateFile.outline)
        return outline

    def check_sums(self) -> None:
        """Read all of ``model.pt`` and compare it with the checksums in it, if it has any.

        Raises
        ------
        CheckpointError
            If a part of it differs.
        """
        self._check_sums(WEIGHTS)

    def _check_sums(self, member: str) -> None:
        damaged = self._tensors(member, StateFile.first_damaged)
        if damaged is not None:
            raise CheckpointError(
                f"{member} in {self.name} is damaged: {damaged} differs from its checksum"
            )

    def _tensors(self, member: str, use: Callable[[StateFile], Any]) -> Any:
        try:
            if member not in self._states:
                self._states[member] = StateFile(self._open(member))
            return use(self._states[member])
        except Exception as error:  # damage shows as many types, KeyError and IndexError too
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(f"{member} in {self.name} cannot be read: {reason}") from error

    def _open(self, member: str) -> FileSlice:
        return FileSlice(self._file, self._members[member].offset, self._members[member].size)

    def _read_json(self, member: str) -> dict[str, Any]:
        size = self._members[member].size
        if size > _MAX_JSON_BYTES:
            raise CheckpointError(
                f"{member} in {self.name} claims {size} bytes, at most {_MAX_JSON_BYTES} are read"
            )
        try:
            content = json.loads(self._open(member).readall())
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{member} in {self.name} is not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{member} in {self.name} is not a JSON object")
        return content


@contextmanager
def open_checkpoint(url: Url) -> Iterator[Checkpoint]:
    """Open a ``.mdlus`` file for reading; a remote one is fetched first.

    Parameters
    ----------
    url
        A path, or any URL that fsspec knows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is not a valid ``.mdlus`` file.
    """
    with fetched(*_locate_file(url)) as path, open(path, "rb") as file:
        yield Checkpoint(file, os.fspath(url))


@contextmanager
def open_records(url: Url) -> Iterator[Checkpoint]:
    """Open a ``.mdlus`` file for its arguments and metadata, without fetching a remote one.

    Takes and raises what :func:`open_checkpoint` does.
    """
    with opened_in_parts(*_locate_file(url)) as file:
        yield Checkpoint(file, os.fspath(url))


def write_checkpoint(
    url: Url,
    state: dict[str, Any] | GatheredState,
    arguments: dict[str, Any],
    metadata: dict[str, Any],
    as_zip: bool = False,
    example: dict[str, Any] | None = None,
    before_commit: Callable[[], None] = lambda: None,
) -> None:
    """Write a ``.mdlus`` file whole or not at all: an older file stays until the new one is ready.

    A local file is written beside its target, as :mod:`physicsnemo.core.format.atomic` tells, and
    its headers are read back before it takes its place; a remote one is written to this machine and
    uploaded. If the disk fills up meanwhile, the error is that of the system, and the older file is
    as it was.

    Parameters
    ----------
    url
        A path, or any URL that fsspec knows.
    state, arguments, metadata
        Content of the members.
    as_zip
        Write a zip, as newer releases of the reference implementation do, instead of a tar.
    example
        Content of a further member, last in the file, if there is one.
    before_commit
        Called when all is written, before the file takes its place, which an exception prevents.

    Raises
    ------
    ValueError
        If the arguments or the metadata are larger than what is read.
    CheckpointError
        If the weights could not be read back.
    OSError
        If the file cannot be written.
    """
    write = _write_zip if as_zip else _write_tar
    filesystem, path = locate(os.fspath(url))
    check_names(arguments, ARGUMENTS, ValueError)
    encoded = {ARGUMENTS: _encoded(ARGUMENTS, arguments), METADATA: _encoded(METADATA, metadata)}
    if is_local(filesystem):
        with atomic_write(Path(path)) as file:
            write(file, state, encoded, example)
            file.flush()
            _read_back(Path(file.name))
            before_commit()
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, f"checkpoint{EXTENSION}")
        with open(local, "xb") as file:
            write(file, state, encoded, example)
        _read_back(Path(local))
        before_commit()
        filesystem.put_file(local, path)


def _encoded(member: str, content: dict[str, Any]) -> bytes:
    encoded = json.dumps(content).encode()
    if len(encoded) > _MAX_JSON_BYTES:
        raise ValueError(
            f"{member} would have {len(encoded)} bytes, at most {_MAX_JSON_BYTES} are read: keep "
            "large tables in buffers, or in files of their own whose names are the arguments"
        )
    return encoded


def _write_tar(
    file: IO[bytes],
    state: dict[str, Any] | GatheredState,
    encoded: dict[str, bytes],
    example: dict[str, Any] | None,
) -> None:
    _write_tensors(file, WEIGHTS, state)
    for name, content in encoded.items():
        file.write(_header(name, len(content)) + content)
        _pad(file, _BLOCK)
    if example is not None:
        _write_tensors(file, EXAMPLE, example)
    file.write(bytes(2 * _BLOCK))
    _pad(file, tarfile.RECORDSIZE)


def _write_tensors(file: IO[bytes], name: str, state: dict[str, Any] | GatheredState) -> None:
    start = file.tell()
    file.write(bytes(_BLOCK))  # the header's place: the size is known once the tensors are written
    write_state(state, file)
    size = file.tell() - start - _BLOCK
    _pad(file, _BLOCK)
    end = file.tell()
    file.seek(start)
    file.write(_header(name, size))
    file.seek(end)


def _read_back(path: Path) -> None:
    """Raise CheckpointError if weights were written that this module would refuse."""
    # A file that cannot be read back must not take the place of one that can.
    with open(path, "rb") as file:
        try:
            members = _find_members(file, str(path))
            for name in members.keys() & {WEIGHTS, EXAMPLE}:
                member = members[name]
                StateFile(FileSlice(file, member.offset, member.size)).outline()
        except Exception as error:  # as in reading
            raise CheckpointError(f"the weights cannot be stored: {error}") from error


def _write_zip(
    file: IO[bytes],
    state: dict[str, Any] | GatheredState,
    encoded: dict[str, bytes],
    example: dict[str, Any] | None,
) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(WEIGHTS, "w", force_zip64=True) as weights:
            write_state(state, weights)
        for name, content in encoded.items():
            archive.writestr(name, content)
        if example is not None:
            with archive.open(EXAMPLE, "w", force_zip64=True) as member:
                write_state(example, member)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)  # one block whatever the size


def _pad(file: IO[bytes], unit: int) -> None:
    file.write(bytes(-file.tell() % unit))


def _find_members(file: BinaryIO, name: str) -> dict[str, Member]:
    """Return the members by name, refusing what no writer of this format makes."""
    # Members are read in place, by offset and size, and nothing is extracted. So offsets must lie
    # in the file, and names must be unique, or two readers could see two different models.
    file_size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_zip = file.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE
    file.seek(0)
    try:
        listed = list_zip(file) if is_zip else list_tar(file)
    except Exception as error:  # the standard library reports damage by many types
        raise CheckpointError(
            f"{name} is not a {EXTENSION} file, or it is damaged: {error}"
        ) from error
    if is_zip and any(member.name.endswith("/data.pkl") for member in listed):
        raise CheckpointError(
            f"{name} was written by torch.save, so it does not say what model to build: build it, "
            f"call its load_state_dict with what torch.load returns, and save it by Module.save"
        )
    members: dict[str, Member] = {}
    for member in listed:
        _check_member(member, members, file_size, name)
        members[member.name] = member
    return members


def _check_member(member: Member, earlier: dict[str, Member], file_size: int, name: str) -> None:
    problem = None
    if "/" in member.name or "\\" in member.name or member.name in ("", ".", ".."):
        problem = "lies in a folder"
    elif not member.is_regular:
        problem = "is not a plain, uncompressed file"
    elif member.name in earlier:
        problem = "appears twice"
    elif member.offset + member.size > file_size:
        problem = f"is cut off: {member.size} bytes from byte {member.offset} of {file_size}"
    if problem:
        raise CheckpointError(f"member {member.name!r} of {name} {problem}")


def _locate_file(url: Url) -> tuple[fsspec.AbstractFileSystem, str]:
    filesystem, path = locate(os.fspath(url))
    filesystem.invalidate_cache(path)  # another process may have written it since
    text = f"there is no checkpoint file at {os.fspath(url)}"
    try:
        kind = filesystem.info(path)["type"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(text) from error  # what a server answered is its cause
    if kind != "file":
        raise FileNotFoundError(text)
    return filesystem, path
