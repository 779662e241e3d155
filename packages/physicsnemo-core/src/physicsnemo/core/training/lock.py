# SPDX-License-Identifier: Apache-2.0
"""Lock files that belong to a process for as long as it lives, and to nobody afterwards."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, after waiting for whoever holds it, and remove it in the end.

    Where the system or the file system has no such locks, the block runs without.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = _acquire(path)
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)  # while it is held: who waits for it will notice
        finally:
            with suppress(OSError):
                flock(descriptor, LOCK_UN)  # for its copies in forked processes, too
            os.close(descriptor)


def is_held(path: Path) -> bool | None:
    """Tell whether a living process holds a lock file; None where that cannot be known."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        flock(descriptor, LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with suppress(OSError):  # file systems without locks
                flock(descriptor, LOCK_EX)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its former holder has removed it


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
