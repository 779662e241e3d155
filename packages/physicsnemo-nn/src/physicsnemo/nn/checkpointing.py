# SPDX-License-Identifier: Apache-2.0
"""Activation checkpointing."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["maybe_checkpoint"]

Result = TypeVar("Result")


def maybe_checkpoint(
    function: Callable[..., Result],
    enabled: bool,
    *arguments: Any,
    preserve_rng_state: bool = False,
) -> Result:
    """Call a function, with activation checkpointing if enabled.

    That keeps only the arguments for the backward pass, which calls the function again. Within the
    transforms of :mod:`torch.func`, which cannot call it again, activations are kept.

    Parameters
    ----------
    function
        What to call.
    enabled
        Whether to checkpoint, or to just call it.
    *arguments
        What to call it with.
    preserve_rng_state
        Whether it draws random numbers, and must draw the same again.

    References
    ----------
    Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv:1604.06174.
    """
    if not enabled or torch._C._are_functorch_transforms_active():  # compiled ones too
        return function(*arguments)
    result: Result = checkpoint(
        function, *arguments, use_reentrant=False, preserve_rng_state=preserve_rng_state
    )
    return result
