# SPDX-License-Identifier: Apache-2.0
"""The ``.mdlus`` file: a container of weights, constructor arguments and metadata.

Version 0.1.0 is an uncompressed tar with the members ``model.pt`` (a state dict as ``torch.save``
writes it), ``args.json`` and ``metadata.json``; newer releases of the reference implementation
write a zip without compression with the same members. Both are read, the tar is written. This
module knows no model, and nothing in a file is ever executed or imported.
"""

import io
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
import torch

from physicsnemo.core.archive import ZIP_SIGNATURE, Member, first_damaged, list_tar, list_zip
from physicsnemo.core.arguments import check_records
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.files import fetched, is_local, locate, opened_in_parts, replacing
from physicsnemo.core.mapping import NotMappableError, map_tensors, outline_tensors
from physicsnemo.core.window import Window

EXTENSION = ".mdlus"
WEIGHTS, ARGUMENTS, METADATA = MEMBERS = ("model.pt", "args.json", "metadata.json")
_MAX_JSON_BYTES = 64 * 2**20
_BLOCK = tarfile.BLOCKSIZE

Url = str | os.PathLike[str]


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

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Read the weights as data only, to the CPU; mapped into memory where that is possible.

        Raises
        ------
        CheckpointError
            If ``model.pt`` is damaged or holds anything but a dictionary of tensors.
        """
        return self._weights(self._read_weights)

    def outline(self) -> dict[str, torch.Tensor]:
        """Return the weights on the meta device: names, shapes and types, with no number read.

        Weights in a format of PyTorch before 1.6 are read. Raises what :meth:`state_dict` does.
        """
        return self._weights(self._outline_weights)

    def check_sums(self) -> None:
        """Read all of ``model.pt`` and compare it with the checksums in it, if it has any.

        Raises
        ------
        CheckpointError
            If a part of it differs.
        """
        try:
            damaged = first_damaged(self._open(WEIGHTS))
        except Exception as error:  # the standard library reports damage by many types
            raise CheckpointError(f"{WEIGHTS} in {self.name} cannot be read: {error}") from error
        if damaged is not None:
            raise CheckpointError(
                f"{WEIGHTS} in {self.name} is damaged: {damaged} differs from its checksum"
            )

    def _weights(self, read: Callable[[], Any]) -> dict[str, torch.Tensor]:
        try:
            state = read()
        except Exception as error:  # torch reports damage by many types, KeyError and EOFError too
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(f"{WEIGHTS} in {self.name} cannot be read: {reason}") from error
        if not isinstance(state, dict) or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
        ):
            raise CheckpointError(f"{WEIGHTS} in {self.name} is not a dictionary of tensors")
        return state

    def _read_weights(self) -> Any:
        try:
            return map_tensors(self._file, self._open(WEIGHTS))
        except NotMappableError:
            return self._load_weights("cpu")

    def _outline_weights(self) -> Any:
        try:
            return outline_tensors(self._open(WEIGHTS))
        except NotMappableError:
            return self._load_weights("meta")

    def _load_weights(self, device: str) -> Any:
        window = io.BufferedReader(self._open(WEIGHTS))
        return torch.load(window, map_location=device, weights_only=True)

    def _open(self, member: str) -> Window:
        return Window(self._file, self._members[member].offset, self._members[member].size)

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
    state: dict[str, Any],
    arguments: dict[str, Any],
    metadata: dict[str, Any],
    as_zip: bool = False,
) -> None:
    """Write a ``.mdlus`` file whole or not at all: an older file stays until the new one is ready.

    Weights go straight into the container. A local file is written beside its target, synced and
    moved into place; a remote one is written locally and uploaded. The container is a tar, or a zip
    as newer releases of the reference implementation write it.
    """
    write = _write_zip if as_zip else _write_tar
    filesystem, path = locate(os.fspath(url))
    members = {ARGUMENTS: arguments, METADATA: metadata}
    encoded = {name: json.dumps(content).encode() for name, content in members.items()}
    if is_local(filesystem):
        with replacing(Path(path)) as file:
            write(file, state, encoded)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, f"checkpoint{EXTENSION}")
        with open(local, "xb") as file:
            write(file, state, encoded)
        filesystem.put_file(local, path)


def _write_tar(file: IO[bytes], state: dict[str, Any], encoded: dict[str, bytes]) -> None:
    start = file.tell()
    file.write(bytes(_BLOCK))  # the header's place: the size is known once the weights are written
    torch.save(state, file)
    size = file.tell() - start - _BLOCK
    _pad(file, _BLOCK)
    end = file.tell()
    file.seek(start)
    file.write(_header(WEIGHTS, size))
    file.seek(end)
    for name, content in encoded.items():
        file.write(_header(name, len(content)) + content)
        _pad(file, _BLOCK)
    file.write(bytes(2 * _BLOCK))
    _pad(file, tarfile.RECORDSIZE)


def _write_zip(file: IO[bytes], state: dict[str, Any], encoded: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(WEIGHTS, "w", force_zip64=True) as weights:
            torch.save(state, weights)
        for name, content in encoded.items():
            archive.writestr(name, content)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)  # one block whatever the size


def _pad(file: IO[bytes], unit: int) -> None:
    file.write(bytes(-file.tell() % unit))


def _find_members(file: BinaryIO, name: str) -> dict[str, Member]:
    """Return the members by name, refusing what no writer of this format makes."""
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
    members: dict[str, Member] = {}
    for member in listed:
        _check_member(member, members, file_size, name)
        members[member.name] = member
    return members


def _check_member(member: Member, earlier: dict[str, Member], file_size: int, name: str) -> None:
    problem = None
    if "/" in member.name or "\\" in member.name or member.name in ("", ".", ".."):
        problem = "lies in a folder"
    elif not member.is_plain:
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
        raise FileNotFoundError(text) from error
    if kind != "file":
        raise FileNotFoundError(text)
    return filesystem, path
