# SPDX-License-Identifier: Apache-2.0
"""Steps of a training in a folder, each a set of files that appears whole or not at all.

The files of a new step are written into a folder of their own. Moving its manifest out of there
makes the step: from then on, a file counts where it is found first, beside where the manifest was
or in its final place. So a step that exists already is replaced as one, too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.training.folder import Folder
from physicsnemo.core.training.manifest import Manifest, Seal
from physicsnemo.core.training.parts import MANIFEST, Part

Writer = Callable[[Path], None]


class Steps:
    """The steps that one rank has in a folder.

    A step without a manifest, as the reference implementation writes it, counts as complete if all
    parts that are asked for exist.
    """

    def __init__(self, folder: Folder, rank: int) -> None:
        self.folder, self.rank = folder, rank

    def complete(self, parts: Iterable[Part]) -> set[int]:
        """Return the steps that can be loaded, if these parts are what is needed."""
        names = self.folder.names()
        loose = set.intersection(*(part.steps(names, self.rank) for part in parts))
        return loose | MANIFEST.steps(names, self.rank)

    def begun(self, parts: Iterable[Part]) -> set[int]:
        """Return the steps of which there is any of these parts."""
        names = self.folder.names()
        return set().union(*(part.steps(names, self.rank) for part in (MANIFEST, *parts)))

    def missing(self, step: int, parts: Iterable[Part]) -> list[str]:
        """Return the names of those parts of a step that are not in the folder."""
        names = self.folder.names()
        return [name for part in parts if (name := part.file(self.rank, step)) not in names]

    def source(self, step: int, part: Part) -> str:
        """Return what to call a part in error texts."""
        return f"{part.file(self.rank, step)} of step {step} in {self.folder.url}"

    def has(self, step: int, part: Part) -> bool:
        """Tell whether a step comprises a part."""
        manifest, name = self._manifest(step), part.file(self.rank, step)
        return self.folder.has(name) if manifest is None else name in manifest.files

    def metadata(self) -> dict[int, dict[str, Any]]:
        """Return the metadata of each step that has a manifest."""
        return {step: manifest.metadata for step, manifest in self._manifests().items()}

    @contextmanager
    def open(self, step: int, parts: Iterable[Part]) -> Iterator[dict[Part, Path]]:
        """Yield a local path for each part, after checking them all against the manifest.

        Raises
        ------
        CheckpointError
            If a part is missing, or is not what was written.
        """
        manifest = self._manifest(step)
        with ExitStack() as stack:
            yield {part: stack.enter_context(self._open(step, part, manifest)) for part in parts}

    def write(self, step: int, writers: Mapping[Part, Writer], metadata: dict[str, Any]) -> None:
        """Make or replace a step of the files that the writers write."""
        self._finish_interrupted()
        old, token = self._manifest(step), uuid4().hex
        manifest_name, staging = MANIFEST.file(self.rank, step), self._staging(token)
        with self.folder.staging(staging) as scratch:
            files = {}
            for part, write in writers.items():
                path = scratch / part.file(self.rank, step)
                write(path)
                files[path.name] = Seal.of(path)
            new = Manifest(token, files, metadata)
            new.write(scratch / manifest_name)
        self.folder.move({f"{staging}/{manifest_name}": manifest_name})
        self._settle(new)
        for name in (old.files.keys() - files.keys()) if old else ():
            self.folder.remove(name)

    def remove(self, step: int) -> None:
        """Delete a step, its manifest last, so that an interrupted removal can be finished."""
        manifest = self._manifest(step)
        for name in manifest.files if manifest else ():
            self.folder.remove(name)
        self.folder.remove(MANIFEST.file(self.rank, step))

    @contextmanager
    def _open(self, step: int, part: Part, manifest: Manifest | None) -> Iterator[Path]:
        name, source = part.file(self.rank, step), self.source(step, part)
        if manifest is not None and name not in manifest.files:
            raise CheckpointError(f"there is no {source}, which has {', '.join(manifest.files)}")
        staged = f"{self._staging(manifest.token)}/{name}" if manifest else name
        found = staged if self.folder.has(staged) else name
        if not self.folder.has(found):
            raise CheckpointError(f"{source} is missing")
        with self.folder.local(found) as path:
            if manifest is not None and (seal := Seal.of(path)) != manifest.files[name]:
                raise CheckpointError(
                    f"{source} is torn or was changed: expected {manifest.files[name]}, got {seal}"
                )
            yield path

    def _manifest(self, step: int) -> Manifest | None:
        name = MANIFEST.file(self.rank, step)
        if not self.folder.has(name):
            return None
        return Manifest.decode(self.folder.read(name), f"{name} in {self.folder.url}")

    def _manifests(self) -> dict[int, Manifest]:
        steps = MANIFEST.steps(self.folder.names(), self.rank)
        found = {step: self._manifest(step) for step in sorted(steps)}
        return {step: manifest for step, manifest in found.items() if manifest is not None}

    def _staging(self, token: str) -> str:
        return f".saving.{self.rank}.{token}"

    def _settle(self, manifest: Manifest) -> None:
        """Move files to their final places, as far as that has not been done."""
        staging = self._staging(manifest.token)
        moves = {f"{staging}/{name}": name for name in manifest.files}
        self.folder.move({old: new for old, new in moves.items() if self.folder.has(old)})
        self.folder.remove_folder(staging)

    def _finish_interrupted(self) -> None:
        """Complete a step whose manifest is in place, and drop files that have none."""
        leftovers = {name for name in self.folder.names() if name.startswith(self._staging(""))}
        for manifest in self._manifests().values() if leftovers else ():
            if self._staging(manifest.token) in leftovers:
                self._settle(manifest)
                leftovers.remove(self._staging(manifest.token))
        for name in leftovers:
            self.folder.remove_folder(name)
