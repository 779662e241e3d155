# SPDX-License-Identifier: Apache-2.0
"""States that all processes of a job have parts of, written by the first of them."""

from collections.abc import Callable, Sequence
from typing import Any

from physicsnemo.core.format.sharded import GatheredState, take_part_in
from physicsnemo.core.ranks import Accord

Commit = Callable[[], None]
Write = Callable[[Sequence[Any], Commit], None]


def write_together(accord: Accord, states: Sequence[Any], write: Write, said: Any = None) -> None:
    """Let the first process write states, while the others give it their parts.

    Parameters
    ----------
    accord
        What all processes agree on.
    states
        The states, in the order in which they are written.
    write
        Called in the first process, with the states as they are to be written, and with what it
        calls when they are, before they take the place of anything.
    said
        What is equal in all processes, by which they see that they do the same.

    Raises
    ------
    CheckpointError
        If another process has failed, or does something else; nothing is written then.
    """
    if not accord.together:
        write(states, accord.reach)
        return
    gathered = [GatheredState(state) for state in states]
    accord.reach(said)
    if accord.writes:
        try:
            write(gathered, accord.reach)
        except Exception:
            if not accord.over:
                take_part_in(gathered)
            raise
    else:
        for state in gathered:
            state.take_part()
        accord.reach()
    accord.reach()
