# SPDX-License-Identifier: Apache-2.0
"""Atomic replacement: a file is written beside its target, synced, and renamed onto it.

Whatever happens meanwhile, be it a full disk or the end of the process, the target is the old file
or the new one, whole. What a killed process has left is cleared by a later save: the file is locked
while it is written, and a lock ends with its process, so what nobody holds is a leftover. Files of
another machine, whose locks may not be seen here, are leftovers when they have been left alone for
a day.
"""

import errno
import hashlib
import os
import platform
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO
from uuid import uuid4

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_NAME = re.compile(r"\.physicsnemo-([0-9a-f]{8})-[0-9a-f]{32}\.tmp")
_DAY = 86_400.0  # seconds
# What file systems answer whose folders cannot be synced, or not by this user.
_UNSYNCED = {
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EBADF,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
}


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file that replaces another as a whole, or not at all if the block raises.

    The new file has the permissions of the old one. It is on the disk when the block has ended.

    Parameters
    ----------
    path
        The file to write or replace; a link goes on pointing at what is replaced.

    Yields
    ------
    A binary file, open for writing.

    Raises
    ------
    OSError
        If it cannot be written; where the folder or the name is the reason, before anything is. If
        only the folder cannot be synced, the new file is in place, but a crash of the machine may
        bring back the old one.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "notes.txt")) as file:
    ...         _ = file.write(b"done")
    ...     Path(folder, "notes.txt").read_bytes()
    b'done'
    """
    path = Path(os.path.realpath(path))  # not the link: that would be replaced by a file
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    mode = _mode(path)
    _clear(path.parent)
    with _scratch(path) as (scratch, file):
        if mode is not None:
            with suppress(OSError):  # where files have no permissions of their own
                os.chmod(scratch, mode)
        yield file
        # The order is what makes it atomic: once its name is on the disk, so are its bytes. Full
        # disks often tell only at the sync, when the target has not been touched yet.
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:  # Windows renames no open file
            file.close()
        os.replace(scratch, path)
    sync_folder(path.parent)


def make_folders(folder: Path) -> None:
    """Make a folder and those that it lies in, and see their names on the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """See new and renamed files of a folder on the disk, as far as its file system does that."""
    if os.name == "nt":  # Windows cannot open a folder, and needs no sync of it
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise


def _mode(path: Path) -> int | None:
    """Return the permissions of the file that will be replaced, None if there is none."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise FileExistsError(f"cannot write {path}: what is there is no file")
    return stat.S_IMODE(found)


@contextmanager
def _scratch(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    while True:
        scratch = path.with_name(f".physicsnemo-{_HOST}-{uuid4().hex}.tmp")
        try:
            file = open(scratch, "xb")  # noqa: SIM115  # closed below
        except OSError as error:
            text = f"cannot write {path}: its folder takes no new file: {error.strerror}"
            raise OSError(error.errno, text) from error
        try:
            with file:
                if fcntl is not None:
                    with suppress(OSError):  # where files cannot be locked
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if scratch.exists():  # nobody has cleared it before it was locked
                    yield scratch, file
                    return
        finally:
            scratch.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Delete what killed processes have left in a folder; trouble with that is no error."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if match := _NAME.fullmatch(name):
                with suppress(OSError):
                    _clear_one(folder / name, match[1])


def _clear_one(scratch: Path, host: str) -> None:
    is_old = time.time() - scratch.stat().st_mtime > _DAY
    if not is_old and (host != _HOST or fcntl is None):
        return
    if fcntl is None:
        scratch.unlink()
        return
    with open(scratch, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error if somebody writes it
        scratch.unlink()
