# SPDX-License-Identifier: Apache-2.0
"""How long trainings last: for a number of steps, or for a time if that is shorter."""

import math
import time
from collections.abc import Iterator

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

WARM = 20  # steps, after which a step is captured and compiled, and takes its usual time


def paced(optimizer: Optimizer, steps: int, seconds: float = math.inf) -> Iterator[int]:
    """Count steps, and set the learning rate after each.

    It rises to that of the optimizer in a twentieth of the training, and falls to 0 as a cosine.

    Parameters
    ----------
    optimizer
        Whose steps are counted.
    steps
        How many there are at most.
    seconds
        How long they take at most, without the first ones. What is reached by then depends on the
        machine.
    """
    progress = 0.0

    def share(_: int) -> float:
        return min(20 * progress + 0.01, 0.5 + 0.5 * math.cos(math.pi * progress))

    schedule = LambdaLR(optimizer, share)
    begin = time.perf_counter()
    for count in range(1, steps + 1):
        yield count
        if count == WARM:
            begin = time.perf_counter()
        late = (time.perf_counter() - begin) / seconds if count > WARM else 0.0
        progress = max(count / steps, late)
        schedule.step()
        if progress >= 1:
            return
