# SPDX-License-Identifier: Apache-2.0
"""Constants that files hold: computed in float64, and kept in the type of the weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from physicsnemo.nn.precision import at_least_float32


def rounded(exact: Tensor) -> Tensor:
    """Return a constant in the default type, in single precision at least."""
    return exact.to(at_least_float32(torch.get_default_dtype()))


def converted(before: Tensor, after: Tensor, exact: Callable[[], Tensor]) -> Tensor:
    """Return a constant after its module was converted.

    It is made anew where it leaves the meta device, and where a wider type has room for digits that
    the narrower one had not; unless it is not what the arguments make, as somebody replaced it.
    :class:`~physicsnemo.nn.table.Table` is for constants that no file holds.

    Parameters
    ----------
    before, after
        The constant before and after the conversion.
    exact
        Makes it in float64.
    """
    widened = after.dtype.itemsize > before.dtype.itemsize
    if after.is_meta or not (before.is_meta or widened):
        return after
    with torch.device("cpu"):
        made = exact()
    eps = torch.finfo(before.dtype).eps
    same = before.is_meta or torch.allclose(
        before.cpu().double(), made, rtol=16 * eps, atol=16 * eps
    )
    return made.to(after) if same else after
