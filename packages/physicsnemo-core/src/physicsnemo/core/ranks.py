# SPDX-License-Identifier: Apache-2.0
"""The processes of a distributed job, as far as files are concerned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import torch.distributed as dist

from physicsnemo.core.errors import CheckpointError

T = TypeVar("T")


class Ranks:
    """The processes that save or load together, each the files of its own rank.

    Parameters
    ----------
    rank
        Whose files this process handles, without regard to other processes. By default those of
        its own rank in ``torch.distributed`` if that is initialized, together with all the others.

    Attributes
    ----------
    rank
        Whose files this process handles.
    together
        Whether there are other processes.
    processes
        How many processes handle files, each those of its rank; None if that is not known.
    """

    def __init__(self, rank: int | None = None) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self._process = dist.get_rank() if joined else None
        self.together = joined and rank is None
        self.processes = None if rank is not None else dist.get_world_size() if joined else 1
        self.rank = rank if rank is not None else self._process or 0

    @classmethod
    def sharing_first(cls, share: bool, rank: int | None = None) -> Self:
        """Return all processes, with the files of rank 0 for all of them if so."""
        ranks = cls(rank)
        ranks.rank = 0 if share else ranks.rank
        return ranks

    def gather(self, value: T) -> list[T]:
        """Return the value of every process by rank, after waiting for all of them."""
        if not self.together:
            return [value]
        values: list[T] = [value] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values

    def owns(self, rank: int) -> bool:
        """Tell whether the files of that rank may be this very process's."""
        return self._process in (None, rank)

    def own(self, by_rank: Sequence[T]) -> T | None:
        """Return this process's item of what as many processes have saved, None of others."""
        count = dist.get_world_size() if self.together else 1
        return by_rank[self._process or 0] if len(by_rank) == count else None


class Accord:
    """What all processes do together: it fails in all of them if it fails in one.

    A process that has failed says so when the others next gather or reach something, which raises
    in these; so each must come to it whatever happens in between. One that never comes, because it
    has ended or does something else, is noticed when its connection breaks, or after the timeout of
    the process group.

    Parameters
    ----------
    action
        What is done, for error texts, as in ``"save model.mdlus"``.
    together
        Whether it is done together; else each process does it for itself.
    rank
        Whose files this process handles in that case, as for :class:`Ranks`.

    Attributes
    ----------
    together
        Whether there is anything to agree on.
    over
        Whether it has failed, and all processes know.
    """

    def __init__(self, action: str, together: bool = True, rank: int | None = None) -> None:
        self._action, self._ranks = action, Ranks(None if together else rank)
        self.together, self.over = together, not together

    @property
    def rank(self) -> int:
        """Whose files this process handles."""
        return 0 if self.together else self._ranks.rank

    @property
    def processes(self) -> int | None:
        """How many processes have files of their own; None if that is not known."""
        return 1 if self.together else self._ranks.processes

    @property
    def writes(self) -> bool:
        """Whether this process writes them."""
        return not self.together or self._ranks.rank == 0

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Tell the other processes of an exception in the block, and raise it."""
        try:
            yield
        except Exception as error:
            if not self.over:
                self._tell(f"{type(error).__name__}: {error}", None)
            raise

    def gather(self, value: T) -> list[T]:
        """Return the value of every process by rank, after waiting for all of them.

        Raises
        ------
        CheckpointError
            If another process has failed.
        """
        if not self.together:
            return self._ranks.gather(value)
        answers = self._tell(None, value)
        for rank, (failure, _) in enumerate(answers):
            if failure is not None:
                self.over = True
                raise CheckpointError(f"cannot {self._action}: process {rank} failed: {failure}")
        return [given for _, given in answers]

    def reach(self, said: Any = None) -> None:
        """Go on when all processes have come here, and have said the same.

        Raises
        ------
        CheckpointError
            If one has failed, or is about to do something else.
        """
        if not self.together:
            return
        first, *others = self.gather(said)
        for rank, other in enumerate(others, 1):
            if other != first:
                self.over = True
                raise CheckpointError(
                    f"cannot {self._action}, which all processes must do together: process 0 has "
                    f"{first}, process {rank} has {other}"
                )

    def _tell(self, failure: str | None, value: T) -> list[tuple[str | None, T]]:
        self.over = self.over or failure is not None
        try:
            return self._ranks.gather((failure, value))
        except Exception as error:
            self.over = True
            raise CheckpointError(
                f"cannot {self._action}: another process has ended, or does something else; all "
                f"must call this together, not rank 0 alone ({error})"
            ) from error
