# SPDX-License-Identifier: Apache-2.0
"""Networks of one time step, applied to many: at once for training, else one after the other."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def each_step(function: Callable[[Tensor], Tensor], steps: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield what a function makes of each time step.

    Where gradients are recorded, whatever the function computes in between is kept for all steps,
    so one call is given all of them as one batch. Else a step is computed when its turn comes, and
    the next one can use its memory.

    Parameters
    ----------
    function
        Maps a batch to a batch of the same size, each sample by itself.
    steps
        The time steps, batches of one shape.
    """
    if not torch.is_grad_enabled():
        yield from map(function, steps)
        return
    batches = list(steps)
    results = function(torch.cat(batches)).chunk(len(batches))
    for index in range(len(batches)):
        yield results[index]


def in_time(steps: Iterator[Tensor], number: int) -> Tensor:
    """Join time steps to one field.

    Parameters
    ----------
    steps
        Fields of shape (batch, channels, *grid). Without gradients, only one exists at a time.
    number
        How many there are.

    Returns
    -------
    A field of shape (batch, channels, number, *grid).
    """
    if torch.is_grad_enabled():
        return torch.stack(list(steps), dim=2)
    field = torch.stack([next(steps)] * number, dim=2)  # room for all
    for index, step in enumerate(steps, start=1):
        field.select(2, index).copy_(step)
    return field
