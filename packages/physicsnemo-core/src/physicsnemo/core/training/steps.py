# SPDX-License-Identifier: Apache-2.0
"""Steps of a training in a folder, each a set of files that appears whole or not at all.

The files of a new step are written into a folder of their own. Moving its manifest out of there
makes the step: from then on, a file counts where it is found first, beside where the manifest was
or in its final place. So a step that exists already is replaced as one, too.

Several processes may write to one folder of this machine: each holds a lock while it writes, so
that nobody takes its files for those of a process that was killed, and files are moved and removed
by one at a time. Elsewhere there are no locks, and files are left alone until they are old.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.training.folder import Folder
from physicsnemo.core.training.manifest import FileDigest, FileStatus, Manifest
from physicsnemo.core.training.parts import MANIFEST, Part

Writer = Callable[[Path], None]

_failed: set[str] = set()  # tokens of saves of this process that have failed


class Steps:
    """The steps that one rank has in a folder.

    A step without a manifest, as the reference implementation writes it, counts as complete if all
    parts that are asked for exist.
    """

    def __init__(self, folder: Folder, rank: int) -> None:
        self.folder, self.rank = folder, rank

    def available(self, parts: Iterable[Part]) -> tuple[set[int], set[int]]:
        """Return the steps that can be loaded, if these parts are what is needed, and all begun."""
        names = self.folder.names()
        listed = MANIFEST.steps(names, self.rank)
        found = [part.steps(names, self.rank) for part in parts]
        return set.intersection(*found) | listed, set().union(listed, *found)

    def begun(self, parts: Iterable[Part]) -> set[int]:
        """Return the steps of which there is any of these parts."""
        return self.available(parts)[1]

    def missing(self, step: int, parts: Iterable[Part]) -> list[str]:
        """Return the names of those parts of a step that are not in the folder."""
        names = self.folder.names()
        return [name for part in parts if (name := part.file(self.rank, step)) not in names]

    def version(self, step: int) -> object:
        """Return what is equal later only if nobody has replaced or removed the step meanwhile."""
        manifest, names = self._manifest(step), self.folder.names()
        return manifest and manifest.token, {n for n in names if self._belongs(n, step)}

    def source(self, step: int, part: Part) -> str:
        """Return what to call a part in error texts."""
        return f"{part.file(self.rank, step)} of step {step} in {self.folder.url}"

    def metadata(self) -> dict[int, dict[str, Any]]:
        """Return the metadata of each step that has a manifest."""
        return {step: manifest.metadata for step, manifest in self._manifests().items()}

    def saved_by_at_most(self, count: int) -> set[int]:
        """Return the steps that are known to be of so many processes, or of fewer."""
        found = set()
        for step in MANIFEST.steps(self.folder.names(), self.rank):
            with suppress(CheckpointError):  # of a damaged manifest, which is told when it is read
                manifest = self._manifest(step)
                if manifest is not None and (manifest.processes or count + 1) <= count:
                    found.add(step)
        return found

    @contextmanager
    def open(
        self, step: int, needed: Iterable[Part], optional: Iterable[Part] = ()
    ) -> Iterator[dict[Part, BinaryIO]]:
        """Open the parts of a step, after checking them all against the manifest.

        A file that takes the place of an open one leaves it as it is.

        Parameters
        ----------
        step
            The number of the step.
        needed
            Parts that must be there.
        optional
            Parts to open if the step comprises them.

        Raises
        ------
        CheckpointError
            If a part is missing, or is not what was written, or is written to during the block.
        """
        manifest = self._manifest(step)
        extra = [part for part in optional if self._has_part(step, part, manifest)]
        with ExitStack() as stack:
            files = {
                part: self._open_part(stack, step, part, manifest)
                for part in dict.fromkeys([*needed, *extra])
            }
            before = {part: FileStatus.of(file) for part, file in files.items()}
            if manifest is not None:
                for part, file in files.items():
                    self._check_digest(file, step, part, manifest)
            yield files
            for part, file in files.items():
                if FileStatus.of(file) != before[part]:
                    raise CheckpointError(f"{self.source(step, part)} was written to meanwhile")

    def write(
        self,
        step: int,
        writers: Mapping[Part, Writer],
        metadata: dict[str, Any],
        before_commit: Callable[[], None] = lambda: None,
        processes: int | None = None,
    ) -> None:
        """Make or replace a step of the files that the writers write.

        Parameters
        ----------
        step
            The number of the step.
        writers
            What writes each part.
        metadata
            What to store with the step.
        before_commit
            Called when all is written, before the step appears, which an exception prevents.
        processes
            How many processes save the step, each the files of its rank; None if not known.

        Raises
        ------
        CheckpointError
            If another process has saved the same step in the meantime, which is kept.
        """
        token = uuid4().hex
        self.folder.make()
        with self.folder.locked(self._lock(token)):
            with self.folder.locked(_MOVE_LOCK):
                self._finish_interrupted()
                old = self._manifest(step)
            try:
                new = self._stage(token, step, writers, metadata, processes)
                before_commit()
                with self.folder.locked(_MOVE_LOCK):
                    self._commit(step, old, new)
            except BaseException:
                _failed.add(token)
                raise

    def remove(self, step: int) -> None:
        """Delete a step, its manifest last, so that an interrupted removal can be finished."""
        with self.folder.locked(_MOVE_LOCK):
            manifest = self._manifest(step)
            for name in manifest.files if manifest else ():
                self.folder.remove(name)
            # Last, since a step without a manifest would pass for one of the reference.
            self.folder.remove(MANIFEST.file(self.rank, step))

    def _stage(
        self,
        token: str,
        step: int,
        writers: Mapping[Part, Writer],
        metadata: dict[str, Any],
        processes: int | None,
    ) -> Manifest:
        """Write the files of a step, and its manifest, into a folder of their own."""
        with self.folder.staging(self._staging(token)) as scratch:
            files = {}
            for part, write in writers.items():
                path = scratch / part.file(self.rank, step)
                write(path)
                # Read back from the disk, so that the digest is of what is there.
                with open(path, "rb") as file:
                    files[path.name] = FileDigest.of(file)
            manifest = Manifest(token, files, metadata, processes)
            manifest.write(scratch / MANIFEST.file(self.rank, step))
        return manifest

    def _commit(self, step: int, old: Manifest | None, new: Manifest) -> None:
        """Make the step that is staged, unless there is another one than there was."""
        name, staging = MANIFEST.file(self.rank, step), self._staging(new.token)
        self._check_owner(step, old, staging)
        # The step is made by this one rename: before it the old step counts, after it the new one,
        # whose files are found in the staging folder until they are moved too.
        self.folder.move({f"{staging}/{name}": name})
        self._move_into_place(new)
        for surplus in (old.files.keys() - new.files.keys()) if old else ():
            self.folder.remove(surplus)
        self._check_owner(step, new, staging)  # where there are no locks

    def _check_owner(self, step: int, expected: Manifest | None, staging: str) -> None:
        found = self._manifest(step)
        if found is not None and (expected is None or found.token != expected.token):
            self.folder.remove_folder(staging)
            raise CheckpointError(
                f"another process has saved step {step} as rank {self.rank} to {self.folder.url} "
                f"while this one did; its step is kept, and this one's is not saved. Two trainings "
                f"cannot share a folder: end one of them, or give each its own"
            )

    def _open_part(
        self, stack: ExitStack, step: int, part: Part, manifest: Manifest | None
    ) -> BinaryIO:
        """Open a part where it is found first."""
        name, source, places = part.file(self.rank, step), self.source(step, part), list[str]()
        if manifest is not None:
            if name not in manifest.files:
                raise CheckpointError(
                    f"there is no {source}, which has {', '.join(manifest.files)}"
                )
            places.append(f"{self._staging(manifest.token)}/{name}")
        for place in (*places, name):
            try:
                return stack.enter_context(self.folder.open(place))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise CheckpointError(f"{source} cannot be read: {error}") from error
        raise CheckpointError(f"{source} is missing")

    def _check_digest(self, file: BinaryIO, step: int, part: Part, manifest: Manifest) -> None:
        expected, found = manifest.files[part.file(self.rank, step)], FileDigest.of(file)
        if found != expected:
            raise CheckpointError(
                f"{self.source(step, part)} is torn or was changed: expected {expected}, "
                f"got {found}"
            )

    def comprises(self, step: int, part: Part) -> bool:
        """Tell whether a step has a part."""
        return self._has_part(step, part, self._manifest(step))

    def _has_part(self, step: int, part: Part, manifest: Manifest | None) -> bool:
        name = part.file(self.rank, step)
        return self.folder.has(name) if manifest is None else name in manifest.files

    def _manifest(self, step: int) -> Manifest | None:
        name = MANIFEST.file(self.rank, step)
        source = f"{name} in {self.folder.url}"
        try:
            manifest = Manifest.decode(self.folder.read(name), source)
        except FileNotFoundError:
            return None
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(f"{source} cannot be read: {error}") from error
        if foreign := [own for own in manifest.files if not self._belongs(own, step)]:
            raise CheckpointError(f"{source} is damaged: it names {foreign[0]!r} of another step")
        return manifest

    def _manifests(self) -> dict[int, Manifest]:
        steps = MANIFEST.steps(self.folder.names(), self.rank)
        found = {step: self._manifest(step) for step in sorted(steps)}
        return {step: manifest for step, manifest in found.items() if manifest is not None}

    def _belongs(self, name: str, step: int) -> bool:
        """Tell whether a file is called as those of this rank at a step are."""
        pattern = rf"[^/\\]+\.{self.rank}\.{step}\.(pt|mdlus|json)"
        return re.fullmatch(pattern, name, re.DOTALL) is not None

    def _staging(self, token: str) -> str:
        return f".saving.{self.rank}.{token}"

    def _lock(self, token: str) -> str:
        return f"{self._staging(token)}.lock"

    def _move_into_place(self, manifest: Manifest) -> None:
        """Move files to their final places, as far as that has not been done."""
        staging = self._staging(manifest.token)
        moves = {f"{staging}/{name}": name for name in manifest.files}
        self.folder.move({old: new for old, new in moves.items() if self.folder.has(old)})
        self.folder.remove_folder(staging)

    def _finish_interrupted(self) -> None:
        """Complete steps whose manifest is in place, and drop files that have none.

        Those of processes that are still at work are left alone.
        """
        prefix = re.escape(self._staging(""))
        found = (re.fullmatch(rf"{prefix}([0-9a-f]+)(\.lock)?", n) for n in self.folder.names())
        tokens = {match[1] for match in found if match}
        dead = {token for token in tokens if token in _failed or self._is_dead(token)}
        for manifest in self._manifests().values() if dead else ():
            if manifest.token in dead:
                self._move_into_place(manifest)
        for token in dead:
            self.folder.remove_folder(self._staging(token))
            self.folder.remove(self._lock(token))

    def _is_dead(self, token: str) -> bool:
        return not self.folder.in_use(self._lock(token), self._staging(token))


_MOVE_LOCK = ".saving.lock"
