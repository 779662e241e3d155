# SPDX-License-Identifier: Apache-2.0
"""Computing again in the backward pass instead of remembering."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def recomputed(
    function: Callable[..., Result], really: bool, *arguments: Any, random: bool = False
) -> Result:
    """Call a function; remember only its arguments, if really so.

    Where it draws random numbers, it draws the same again.
    """
    if not really:
        return function(*arguments)
    result: Result = checkpoint(
        function, *arguments, use_reentrant=False, preserve_rng_state=random
    )
    return result
