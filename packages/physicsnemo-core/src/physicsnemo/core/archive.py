# SPDX-License-Identifier: Apache-2.0
"""The members of tar and zip files, found without extracting anything."""

import tarfile
import zipfile
from dataclasses import dataclass
from typing import IO, Any

ZIP_SIGNATURE = b"PK\x03\x04"
_MAX_HEADER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Member:
    """Where a member's bytes lie in the file.

    Attributes
    ----------
    name
        As the archive has it.
    offset, size
        Its bytes in the file.
    is_plain
        Whether it is a regular file, neither compressed nor sparse nor encrypted nor a link.
    """

    name: str
    offset: int
    size: int
    is_plain: bool


def list_tar(file: IO[bytes]) -> list[Member]:
    """List an uncompressed tar, less the entry of the folder that some writers put first.

    Raises
    ------
    tarfile.TarError, OSError, ValueError
        If it is not one.
    """
    with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
        return [
            Member(
                entry.name.removeprefix("./"),
                entry.offset_data,
                entry.size,
                entry.isreg() and not entry.issparse(),
            )
            for entry in archive
            if not (entry.isdir() and entry.name == ".")
        ]


def list_zip(file: Any) -> list[Member]:
    """List a zip, given any object that can seek and read bytes.

    Raises
    ------
    zipfile.BadZipFile, OSError
        If it is not one.
    """
    with zipfile.ZipFile(_Headers(file)) as archive:
        return [
            Member(entry.filename, _data_offset(file, entry), entry.file_size, _is_plain(entry))
            for entry in archive.infolist()
        ]


class _Headers:
    """A file read for its headers, which may not claim to be longer than any is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_HEADER_BYTES:
            raise ValueError(f"a header claims {size} bytes, at most {_MAX_HEADER_BYTES} are read")
        return self._file.read(size)


def first_damaged(file: Any) -> str | None:
    """Return the first member of a zip that differs from its checksum, None if none does.

    None too for what has no checksums: other formats, and zips that PyTorch was told to write so.
    """
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        return archive.testzip() if any(entry.CRC for entry in archive.infolist()) else None


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
    encrypted = entry.flag_bits & 1
    return stored and not encrypted and not entry.is_dir()


def _data_offset(file: Any, entry: zipfile.ZipInfo) -> int:
    # The lengths of name and extra field in the local header differ from those in the directory.
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != ZIP_SIGNATURE:
        raise zipfile.BadZipFile(f"no local header for {entry.filename}")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return entry.header_offset + 30 + lengths
