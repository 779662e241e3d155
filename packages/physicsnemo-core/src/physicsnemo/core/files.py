# SPDX-License-Identifier: Apache-2.0
"""Files on this machine and elsewhere: located by URL, fetched, read in parts, replaced whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import fsspec

# The extra of physicsnemo-core that installs the client of a protocol.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
_PART = 2**15  # bytes; headers, arguments and metadata of most files fit into two


def locate(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a path or URL, and the path there.

    Raises
    ------
    ImportError
        If the client of the protocol is not installed; the text names what to install.
    ValueError
        If nobody knows the protocol.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        protocol = url.rpartition("::")[2].partition("://")[0]
        hint = str(error)
        if protocol in EXTRAS:
            hint = f"run pip install 'physicsnemo-core[{EXTRAS[protocol]}]' ({hint})"
        raise ImportError(f"{url} needs a package that cannot be imported: {hint}") from error
    return filesystem, path


def is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    """Tell whether a file system is that of this machine."""
    return isinstance(filesystem, fsspec.get_filesystem_class("file"))


def kind(filesystem: fsspec.AbstractFileSystem, path: str) -> str | None:
    """Return ``"file"`` or ``"directory"``, or None where there is neither.

    A server that refuses to tell or does not answer is an error here, while ``isfile`` of fsspec
    says that there is no such file.
    """
    try:
        return str(filesystem.info(path)["type"])
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def fetched(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[Path]:
    """Yield the path of a file, or of its copy on this machine."""
    if is_local(filesystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, "copy")
        filesystem.get_file(path, str(local))
        yield local


@contextmanager
def opened_in_parts(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[BinaryIO]:
    """Open a file of which little is read; it is fetched only where it cannot be read in parts."""
    with ExitStack() as stack:
        try:
            file = filesystem.open(path, "rb", block_size=_PART, cache_type="blockcache")
            stack.enter_context(file)
            file.seek(-1, os.SEEK_END)
            file.read(1)
        except (OSError, ValueError, NotImplementedError):  # where servers know no ranges
            file = stack.enter_context(open(stack.enter_context(fetched(filesystem, path)), "rb"))
        yield file


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of another when all is written, else vanishes."""
    path = Path(os.path.realpath(path))  # a link keeps pointing at the file that is replaced
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    scratch = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with open(scratch, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """See new and renamed files of a folder on the disk."""
    if os.name == "nt":  # Windows cannot open a folder, and needs no sync of it
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
