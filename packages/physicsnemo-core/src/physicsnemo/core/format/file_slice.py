# SPDX-License-Identifier: Apache-2.0
"""A slice of the bytes of an open file, as a file of its own."""

import io
import os
from typing import IO


class FileSlice(io.RawIOBase):
    """Read-only view of ``size`` bytes of a file from ``offset`` on.

    It keeps a position of its own, and every read seeks first, so that slices of one file can be
    read in turn.

    Attributes
    ----------
    offset, size
        The bytes of the file that it shows.
    """

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file, self.offset, self.size, self._position = file, offset, size, 0

    def part(self, offset: int, size: int) -> "FileSlice":
        """Return a slice of this one, cut off where this one ends."""
        return FileSlice(self._file, self.offset + offset, max(0, min(size, self.size - offset)))

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the slice and return the new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill a buffer as far as the slice and the file go, and return how far that was."""
        self._file.seek(self.offset + self._position)
        room = memoryview(buffer)[: max(0, self.size - self._position)]
        length: int = self._file.readinto(room)  # type: ignore[attr-defined]
        self._position += length
        return length

    def read_whole(self, buffer: memoryview) -> None:
        """Fill a buffer.

        Raises
        ------
        ValueError
            If the file ends before it is full, as one does that is written over meanwhile.
        """
        done = 0
        while done < len(buffer):
            length = self.readinto(buffer[done:])
            if not length:
                raise ValueError(f"the file ended {len(buffer) - done} bytes too early")
            done += length
