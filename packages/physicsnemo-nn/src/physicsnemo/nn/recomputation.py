# SPDX-License-Identifier: Apache-2.0
"""Computing again in the backward pass instead of remembering."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]

Result = TypeVar("Result")


def recomputed(
    function: Callable[..., Result], really: bool, *arguments: Any, random: bool = False
) -> Result:
    """Call a function; remember only its arguments for the backward pass, if really so.

    Within the transforms of :mod:`torch.func` all is remembered, as these cannot compute again.

    Parameters
    ----------
    function
        What to call.
    really
        Whether to compute again, or to just call it.
    *arguments
        What to call it with.
    random
        Whether it draws random numbers; it draws the same again.
    """
    if not really or torch._C._are_functorch_transforms_active():
        return function(*arguments)
    result: Result = checkpoint(
        function, *arguments, use_reentrant=False, preserve_rng_state=random
    )
    return result
