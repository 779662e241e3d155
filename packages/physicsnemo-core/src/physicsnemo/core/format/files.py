# SPDX-License-Identifier: Apache-2.0
"""Files by path or URL, on this machine or any file system of fsspec: located, fetched, read."""

import inspect
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec

# The extra of physicsnemo-core that installs the client of a protocol.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
# A single letter before a colon is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(://|::)")
Url = str | os.PathLike[str]  # a path, or any URL that fsspec knows

_PART = 2**15  # bytes; headers, arguments and metadata of most files fit into two


def locate(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a path or URL, and the path there.

    A URL begins with a protocol; everything else is a path on this machine, whatever is in it. Two
    colons chain URLs, as in ``"simplecache::s3://bucket/model.mdlus"``, only behind a protocol that
    works on top of another one, and are part of a name elsewhere.

    Raises
    ------
    ImportError
        If the client of the protocol is not installed; the text names what to install.
    ValueError
        If nobody knows the protocol.
    """
    protocol = _protocol(url)
    if protocol is None:
        protocol, url = "file", f"file://{url}"
    try:
        client = fsspec.get_filesystem_class(protocol)
        if _works_on_another(client):
            filesystem, path = fsspec.core.url_to_fs(url)
            return filesystem, path
        return client(**client._get_kwargs_from_urls(url)), client._strip_protocol(url)
    except ImportError as error:
        wanted = _protocol(url.rpartition("::")[2]) or protocol
        hint = str(error)
        if wanted in EXTRAS:
            hint = f"run pip install 'physicsnemo-core[{EXTRAS[wanted]}]' ({hint})"
        raise ImportError(f"{url} needs a package that cannot be imported: {hint}") from error


def _protocol(url: str) -> str | None:
    """Return the protocol that a URL begins with, None for a path on this machine."""
    match = _SCHEME.match(url)
    if match is None:
        return None
    protocol, separator = match.groups()
    if separator == "://":
        return protocol
    # A folder may be called "data::run"; a chain goes on with another URL.
    goes_on = protocol in fsspec.available_protocols() and _protocol(url[match.end() :])
    return protocol if goes_on else None


def _works_on_another(client: type[fsspec.AbstractFileSystem]) -> bool:
    return any(
        "target_protocol" in inspect.signature(vars(base)["__init__"]).parameters
        for base in client.__mro__
        if "__init__" in vars(base)
    )


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
        except (OSError, ValueError, NotImplementedError):  # servers without range requests
            file = stack.enter_context(open(stack.enter_context(fetched(filesystem, path)), "rb"))
        yield file
