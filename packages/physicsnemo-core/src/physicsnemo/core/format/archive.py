# SPDX-License-Identifier: Apache-2.0
"""The members of tar and zip files, found without extracting anything."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

ZIP_SIGNATURE = b"PK\x03\x04"
_BLOCK = 512
_MAX_MEMBERS = 100
_MAX_EXTENSION = 2**14  # bytes of a tar header that is longer than a block
_MAX_DIRECTORY = 2**24  # bytes of a zip's directory; that of 100,000 tensors takes half of it
_CHUNK = 2**20


@dataclass(frozen=True)
class Member:
    """Where a member's bytes lie in the file.

    Attributes
    ----------
    name
        As the archive has it.
    offset, size
        Its bytes in the file.
    is_regular
        Whether its bytes lie in the archive as they are: neither compressed, sparse nor encrypted,
        and no link or folder.
    crc
        The checksum of its bytes, None where the archive has none.
    """

    name: str
    offset: int
    size: int
    is_regular: bool
    crc: int | None = None


def list_tar(file: IO[bytes]) -> list[Member]:
    """List an uncompressed tar, less the entry of the folder that some writers put first.

    The standard library's reader follows sizes below zero and reads headers of any length, so the
    headers are read here, each once and each further on in the file. The list ends at the first
    member that is no plain file.

    Raises
    ------
    OSError, ValueError
        If it is not one.
    """
    members: list[Member] = []
    for member, is_folder in _tar_entries(file):
        if is_folder and member.name in (".", "./", ""):
            continue
        members.append(member)
        if len(members) > _MAX_MEMBERS:
            raise ValueError(f"it has more than {_MAX_MEMBERS} members")
        if not member.is_regular:
            break
    return members


def _tar_entries(file: IO[bytes]) -> Iterator[tuple[Member, bool]]:
    # Each header lies further on than the one before it, so no file can make this go in circles.
    place, overrides, headers = 0, dict[str, str](), 0
    while (header := _at(file, place, _BLOCK)).strip(b"\0"):
        headers += 1
        if headers > 2 * _MAX_MEMBERS:
            raise ValueError(f"it has more than {headers - 1} headers")
        _check_header(header)
        kind, size = header[156:157], _tar_number(header[124:136])
        start = place + _BLOCK
        if kind in b"xgLK":  # of the next member: what has no room in its own header
            if size > _MAX_EXTENSION:
                raise ValueError(f"a header claims {size} bytes, at most {_MAX_EXTENSION} are read")
            overrides |= _extension(kind, _at(file, start, size))
        else:
            size = int(overrides.get("size", size))
            name = overrides.get("path") or _tar_name(header)
            overrides = {}
            is_regular = kind in b"\x000" and not name.endswith("/")
            yield Member(name.removeprefix("./"), start, size, is_regular), kind == b"5"
        place = start + size + -size % _BLOCK
    if len(header) < _BLOCK:
        raise ValueError("it ends before its end mark")


def _check_header(header: bytes) -> None:
    if len(header) < _BLOCK:
        raise ValueError("it ends within a header")
    if sum(header[:148]) + 8 * ord(" ") + sum(header[156:]) != _tar_number(header[148:156]):
        raise ValueError("a header differs from its checksum, or it is no tar")


def _tar_number(field: bytes) -> int:
    if field[0] == 0x80 and not any(field[1:5]):  # numbers of 63 bits
        return int.from_bytes(field[5:], "big") & (2**63 - 1)
    text = field.partition(b"\0")[0].strip()
    if not re.fullmatch(rb"[0-7]*", text):
        raise ValueError("a header holds something else where a number from 0 is expected")
    return int(text or b"0", 8)


def _tar_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _extension(kind: bytes, content: bytes) -> dict[str, str]:
    """Return what a header says of the next member that has no room in a block."""
    if kind == b"L":
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    if kind == b"K":
        return {}
    values: dict[str, str] = {}
    while content.strip(b"\0"):
        length = re.match(rb"(\d{1,6}) ", content)
        size = int(length[1]) if length else 0
        key, separator, value = content[length.end() if length else 0 : size].partition(b"=")
        if not separator or not value.endswith(b"\n") or size > len(content):
            raise ValueError("a header's records are damaged")
        values[key.decode()] = value[:-1].decode("utf-8", "surrogateescape")
        content = content[size:]
    if any(key.startswith("GNU.sparse") for key in values):
        raise ValueError("a member is sparse")
    if not re.fullmatch(r"\d{1,18}", values.get("size", "0"), re.ASCII):
        raise ValueError("a header claims a size that is no number")
    return {key: value for key, value in values.items() if key in ("path", "size")}


def _at(file: IO[bytes], place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def list_zip(file: Any) -> list[Member]:
    """List a zip, given any object that can seek and read bytes.

    Raises
    ------
    zipfile.BadZipFile, OSError, ValueError
        If it is not one.
    """
    with zipfile.ZipFile(_Headers(file)) as archive:
        return [
            Member(
                entry.filename,
                _data_offset(file, entry),
                entry.file_size,
                _is_regular(entry),
                entry.CRC,
            )
            for entry in archive.infolist()
        ]


class _Headers:
    """A file read for its headers, which may not claim to be longer than any is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_DIRECTORY:
            raise ValueError(f"a header claims {size} bytes, at most {_MAX_DIRECTORY} are read")
        return self._file.read(size)


def first_damaged(file: IO[bytes], members: list[Member]) -> str | None:
    """Return the name of the first member that differs from its checksum, None if none does.

    None too for what has no checksums, such as zips that PyTorch was told to write so.
    """
    if not any(member.crc for member in members):
        return None
    damaged = (member.name for member in members if _checksum(file, member) != member.crc)
    return next(damaged, None)


def _checksum(file: IO[bytes], member: Member) -> int:
    checksum, place, end = 0, member.offset, member.offset + member.size
    while place < end:
        content = _at(file, place, min(_CHUNK, end - place))
        if not content:
            raise ValueError(f"{member.name} is cut off")
        checksum = zlib.crc32(content, checksum)
        place += len(content)
    return checksum


def _is_regular(entry: zipfile.ZipInfo) -> bool:
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
    encrypted = entry.flag_bits & 1
    return stored and not encrypted and not entry.is_dir()


def _data_offset(file: Any, entry: zipfile.ZipInfo) -> int:
    # The lengths of name and extra field in the local header differ from those in the directory.
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != ZIP_SIGNATURE:
        raise zipfile.BadZipFile(f"no local header for {entry.filename[:100]}")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return entry.header_offset + 30 + lengths
