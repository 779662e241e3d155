# SPDX-License-Identifier: Apache-2.0
"""A progress bar for those who ask for one."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def follow(steps: Sequence[Step], progress: bool) -> Iterable[Step]:
    """Return the steps, shown on the terminal as they pass if there is to be progress."""
    if not progress:
        return steps
    from rich.progress import track

    return track(steps, description="Sampling")
