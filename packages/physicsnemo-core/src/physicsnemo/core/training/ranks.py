# SPDX-License-Identifier: Apache-2.0
"""The processes of a distributed job, as far as files are concerned."""

from typing import TypeVar

import torch.distributed as dist

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
    """

    def __init__(self, rank: int | None = None) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self._process = dist.get_rank() if joined else None
        self._together = joined and rank is None
        self.rank = rank if rank is not None else self._process or 0

    def gather(self, value: T) -> list[T]:
        """Return the value of every process by rank, after waiting for all of them."""
        if not self._together:
            return [value]
        values: list[T] = [value] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values

    def owns(self, rank: int) -> bool:
        """Tell whether the files of that rank may be this very process's."""
        return self._process in (None, rank)
