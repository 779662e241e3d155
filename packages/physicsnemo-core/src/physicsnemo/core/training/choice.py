# SPDX-License-Identifier: Apache-2.0
"""Which step of a training to load."""

import logging

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.training.folder import Folder
from physicsnemo.core.training.parts import Part
from physicsnemo.core.training.ranks import Ranks
from physicsnemo.core.training.steps import Steps

_LOGGER = logging.getLogger("checkpoint")


def choose_step(
    folder: Folder, parts: list[Part], epoch: int | None, ranks: Ranks
) -> tuple[Steps, int | None]:
    """Return whose step to load and its number, None if any would do and there is none.

    Raises
    ------
    CheckpointError
        If the given step is not complete on every rank or, without one, no step is.
    """
    steps = Steps(folder, ranks.rank)
    found = ranks.gather((steps.complete(parts), steps.begun(parts)))
    if len(found) > 1 and not any(begun for _, begun in found[1:]):
        steps, found = Steps(folder, 0), found[:1]  # rank 0 saved for all
    complete = set.intersection(*(own for own, _ in found))
    begun = set().union(*(own for _, own in found))
    if epoch is None and not begun:
        return steps, None
    step = max(complete or begun) if epoch is None else epoch
    if step not in complete:
        raise _incomplete(steps, step, parts, complete)
    if epoch is None and step < max(begun):
        _LOGGER.warning("%s; taking step %d", _incomplete(steps, max(begun), parts, complete), step)
    return steps, step


def next_step(steps: Steps, parts: list[Part], ranks: Ranks) -> int:
    """Return the number after the largest that any rank has used."""
    begun = set().union(*ranks.gather(steps.begun(parts)))
    return max(begun, default=-1) + 1


def _incomplete(steps: Steps, step: int, parts: list[Part], complete: set[int]) -> CheckpointError:
    absent = ", ".join(steps.missing(step, parts)) or "a part of another rank"
    others = ", ".join(map(str, sorted(complete))) or "none"
    return CheckpointError(
        f"step {step} in {steps.folder.url} lacks {absent}; complete steps: {others}"
    )
