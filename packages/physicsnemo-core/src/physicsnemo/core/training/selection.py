# SPDX-License-Identifier: Apache-2.0
"""Which step of a training to load, and what to do if it is gone when it is to be read."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.ranks import Accord, Ranks
from physicsnemo.core.training.folder import Folder
from physicsnemo.core.training.parts import Part
from physicsnemo.core.training.steps import Steps

_LOGGER = logging.getLogger("physicsnemo.checkpoint")
_TRIES = 10  # while other processes replace or remove the step again and again
_PAUSE = 0.1  # seconds in which a removal that has begun goes on

T = TypeVar("T")


def read_step(
    folder: Folder,
    parts: list[Part],
    epoch: int | None,
    ranks: Ranks,
    read: Callable[[Steps, int], T],
) -> tuple[Steps, int | None, T | None]:
    """Choose a step and read it; choose again if another process replaces or removes it meanwhile.

    Either all processes read it or none does.

    Parameters
    ----------
    folder, parts, epoch, ranks
        As for :func:`choose_step`.
    read
        Returns the content of a step, and changes nothing.

    Raises
    ------
    CheckpointError
        If a process cannot read the step at two tries, and nobody has changed it in between; also
        what :func:`choose_step` raises.
    """
    for attempt in range(_TRIES):
        steps, step = choose_step(folder, parts, epoch, ranks)
        if step is None:
            return steps, None, None
        before, content, failure = _version(steps, step), None, None
        try:
            content = read(steps, step)
        except CheckpointError as error:
            failure = error
            time.sleep(_PAUSE)
        changed = failure is not None and _version(steps, step) != before
        outcomes = ranks.gather((failure and str(failure), changed))
        if not any(text for text, _ in outcomes):
            return steps, step, content
        if attempt and not any(changed for _, changed in outcomes):
            break
    if failure is not None:
        raise failure
    rank, text = next((rank, text) for rank, (text, _) in enumerate(outcomes) if text)
    raise CheckpointError(f"nothing is loaded, since rank {rank} cannot load step {step}: {text}")


def choose_step(
    folder: Folder, parts: list[Part], epoch: int | None, ranks: Ranks
) -> tuple[Steps, int | None]:
    """Return whose step to load and its number, None if any would do and there is none.

    Raises
    ------
    CheckpointError
        If the given step is not complete on every rank or, without one, no step is.
    """
    steps, first = Steps(folder, ranks.rank), Steps(folder, 0)
    complete, begun = steps.available(parts)
    # Steps of fewer processes than that this one were among them: it takes those of rank 0, and
    # what it has itself of the same number is older.
    shared = first.saved_by_at_most(ranks.rank) if ranks.together else set()
    if shared:
        complete = (complete - shared) | (first.available(parts)[0] & shared)
        begun = begun | shared
    found = ranks.gather((complete, begun))
    if len(found) > 1 and not any(begun for _, begun in found[1:]):
        steps, found = first, found[:1]  # rank 0 saved for all
    complete = set.intersection(*(own for own, _ in found))
    begun = set().union(*(own for _, own in found))
    if epoch is None and not begun:
        return steps, None
    step = max(complete or begun) if epoch is None else epoch
    steps = first if step in shared else steps
    if step not in complete:
        raise _incomplete(steps, step, parts, complete)
    if epoch is None and step < max(begun):
        _LOGGER.warning("%s; taking step %d", _incomplete(steps, max(begun), parts, complete), step)
    return steps, step


def next_step(steps: Steps, parts: list[Part], ranks: Ranks | Accord) -> int:
    """Return the number after the largest that any rank has used."""
    begun = set().union(*ranks.gather(steps.begun(parts)))
    return max(begun, default=-1) + 1


def _version(steps: Steps, step: int) -> object:
    try:
        return steps.version(step)
    except CheckpointError as error:  # a damaged manifest
        return str(error)


def _incomplete(steps: Steps, step: int, parts: list[Part], complete: set[int]) -> CheckpointError:
    absent = ", ".join(steps.missing(step, parts)) or "a part of another rank"
    others = ", ".join(map(str, sorted(complete))) or "none"
    return CheckpointError(
        f"step {step} in {steps.folder.url} lacks {absent}; complete steps: {others}"
    )
