# SPDX-License-Identifier: Apache-2.0
"""Which precision something is computed in, under autocast and without."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = ["at_least_float32", "no_autocast", "precision_of_products", "widened"]


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return float32, or a floating-point type itself if it is wider."""
    return torch.promote_types(dtype, torch.float32)


def widened(x: Tensor) -> Tensor:
    """Return a tensor in float32 or wider, or as it is where autocast chooses the precision."""
    return x if _is_autocast(x) else x.to(at_least_float32(x.dtype))


def precision_of_products(x: Tensor) -> torch.dtype:
    """Return the type that matrix products of a tensor are computed in: its own, or autocast's."""
    if x.dtype == torch.float64 or not _is_autocast(x):
        return x.dtype
    return torch.get_autocast_dtype(x.device.type)


def no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which autocast leaves the types of what meets a tensor as they are.

    Parameters
    ----------
    x
        A tensor on the device concerned.
    """
    # Where autocast is off, there is nothing to switch off, and a context costs time.
    return torch.autocast(x.device.type, enabled=False) if _is_autocast(x) else nullcontext()


def _is_autocast(x: Tensor) -> bool:
    # The meta device knows no autocast.
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)
