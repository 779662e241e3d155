# SPDX-License-Identifier: Apache-2.0
"""The list of the files that make up one step of a training, with what proves them whole."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from physicsnemo.core.errors import CheckpointError

_FORMAT = 1


@dataclass(frozen=True)
class FileDigest:
    """Size in bytes and SHA-256 digest of a file, which prove it whole."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """Read an open file, which is at its start before and afterwards."""
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        size = file.tell()
        file.seek(0)
        return cls(size, digest)


@dataclass(frozen=True)
class FileStatus:
    """Size and time of modification of an open file, which change when somebody writes to it."""

    bytes: int
    modified: int

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """Look at an open file."""
        status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Manifest:
    """The files of a step.

    Attributes
    ----------
    token
        Hexadecimal name of the save that made the step.
    files
        The digest of each file by its name.
    metadata
        What the user stored with the step.
    processes
        How many processes have saved the step, each the files of its rank; None if not known.
    """

    token: str
    files: dict[str, FileDigest]
    metadata: dict[str, Any]
    processes: int | None = None

    def write(self, path: Path) -> None:
        """Write a manifest file, and see it on the disk."""
        files = {name: vars(digest) for name, digest in self.files.items()}
        content = {"format": _FORMAT, "token": self.token, "files": files}
        if self.processes is not None:
            content["processes"] = self.processes
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(content | {"metadata": self.metadata}, indent=1))
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def decode(cls, content: bytes, source: str) -> Self:
        """Return the manifest that a file holds.

        Raises
        ------
        CheckpointError
            If it is not one; file names that lead out of the folder are refused too.
        """
        try:
            fields = json.loads(content)
            if fields["format"] != _FORMAT:
                raise ValueError(f"its format is {fields['format']}, expected {_FORMAT}")
            files = {name: FileDigest(**digest) for name, digest in fields["files"].items()}
            kinds = r"[^/\\]+\.(pt|mdlus|json)"
            if not all(re.fullmatch(kinds, name, re.DOTALL) for name in files):
                raise ValueError("it names files of other kinds")
            if not re.fullmatch(r"[0-9a-f]+", fields["token"]):
                raise ValueError(f"its token is {fields['token']!r}")
            processes = fields.get("processes")
            if processes is not None and (type(processes) is not int or processes < 1):
                raise ValueError(f"it is of {processes!r} processes")
            return cls(fields["token"], files, dict(fields["metadata"]), processes)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{source} is damaged: {error!r}") from error
