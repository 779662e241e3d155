# SPDX-License-Identifier: Apache-2.0
"""A folder on any file system that fsspec knows, in which files are replaced, never overwritten.

Every name is meant literally. Only those methods of fsspec are called that take one path as it is:
``rm`` and the like expand brackets, asterisks and question marks, whatever they find by that name.
"""

import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from physicsnemo.core.format.atomic import make_folders, sync_folder
from physicsnemo.core.format.files import Url, fetched, is_local, kind, locate
from physicsnemo.core.training.lock import is_held, locked


class Folder:
    """A folder by its URL; names are relative to it.

    Attributes
    ----------
    url
        As it was given.
    """

    def __init__(self, url: Url) -> None:
        self.url = os.fspath(url)
        self._filesystem, self._path = locate(self.url)
        self._on_this_machine = is_local(self._filesystem)

    def names(self) -> set[str]:
        """Return the names in the folder; none if there is no such folder.

        Raises
        ------
        FileNotFoundError
            If the path is that of a file.
        """
        self._filesystem.invalidate_cache()
        found = kind(self._filesystem, self._path)
        if found == "file":
            raise FileNotFoundError(f"expected a folder, {self.url} is a file")
        if found is None:
            return set()
        entries = self._filesystem.ls(self._path, detail=False)
        return {entry.rstrip("/").rpartition("/")[2] for entry in entries}

    def url_of(self, name: str) -> str:
        """Return the URL of a file."""
        return posixpath.join(self.url, name)

    @property
    def local(self) -> Path | None:
        """The folder on this machine, None if it is elsewhere."""
        return Path(self._path) if self._on_this_machine else None

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        return kind(self._filesystem, self._at(name)) == "file"

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return bytes(self._filesystem.cat_file(self._at(name)))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file, or its copy on this machine."""
        with fetched(self._filesystem, self._at(name)) as path, open(path, "rb") as file:
            yield file

    def make(self) -> None:
        """Make the folder if it does not exist."""
        if self._on_this_machine:
            make_folders(Path(self._path))

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock file for a block, if the folder is on this machine."""
        return locked(Path(self._at(name))) if self._on_this_machine else nullcontext()

    def in_use(self, lock: str, name: str) -> bool:
        """Tell whether who holds a lock may still write to the folder of a name.

        Where there are no locks, it may for a day after it last did.
        """
        held = is_held(Path(self._at(lock))) if self._on_this_machine else None
        if held is not None:
            return held
        try:
            times = [self._filesystem.modified(path) for path in self._files(self._at(name))]
        except (NotImplementedError, FileNotFoundError):  # nobody tells, or it is being moved
            return True
        return not times or _age(max(times)) < timedelta(days=1)

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """Yield an empty folder on this machine; what is put into it becomes the folder ``name``.

        Who writes the files syncs them. After an exception in the block the folder does not exist.
        """
        if not self._on_this_machine:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
                self._upload(Path(scratch), name)
            return
        folder = Path(self._at(name))
        folder.mkdir()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder)
            raise
        sync_folder(folder)
        sync_folder(folder.parent)

    def move(self, names: dict[str, str]) -> None:
        """Rename files, each replacing what has its new name."""
        for old, new in names.items():
            if self._on_this_machine:
                os.replace(self._at(old), self._at(new))
            else:  # object stores rename nothing, but a copy appears whole
                self._filesystem.cp_file(self._at(old), self._at(new))
                self._filesystem.rm_file(self._at(old))
        if self._on_this_machine:
            sync_folder(Path(self._path))

    def remove(self, name: str) -> None:
        """Delete a file if it exists."""
        if self._on_this_machine:
            Path(self._at(name)).unlink(missing_ok=True)
        elif self.has(name):
            self._filesystem.rm_file(self._at(name))

    def remove_folder(self, name: str) -> None:
        """Delete a folder with what is in it, if it exists."""
        if not self._on_this_machine:
            self._remove_tree(self._at(name))
        elif (folder := Path(self._at(name))).is_dir():
            shutil.rmtree(folder)

    def _remove_tree(self, path: str) -> None:
        if kind(self._filesystem, path) != "directory":
            return
        for entry in self._filesystem.ls(path, detail=True):
            if entry["type"] == "directory":
                self._remove_tree(entry["name"])
            else:
                self._filesystem.rm_file(entry["name"])
        if kind(self._filesystem, path) == "directory":  # where folders exist by themselves
            self._filesystem.rmdir(path)

    def _files(self, path: str) -> list[str]:
        """Return the files of a folder, which need not exist."""
        if kind(self._filesystem, path) != "directory":
            return []
        entries = self._filesystem.ls(path, detail=True)
        return [entry["name"] for entry in entries if entry["type"] == "file"]

    def _at(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"

    def _upload(self, scratch: Path, name: str) -> None:
        for file in sorted(scratch.iterdir()):
            self._filesystem.put_file(str(file), self._at(f"{name}/{file.name}"))


def _age(moment: datetime) -> timedelta:
    return datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
