# SPDX-License-Identifier: Apache-2.0
"""Options of the encoder that may be given once for all grid axes, or axis by axis."""

import operator
import warnings
from collections.abc import Iterable
from typing import Any

from physicsnemo.nn.checks import check_choice, is_integer

PADDING_TYPES = ("constant", "reflect", "replicate", "circular")


def modes_of_each_axis(num_fno_modes: Any, dimension: int) -> list[int]:
    """Return the number of modes of each axis.

    Raises
    ------
    TypeError
        If it is neither a whole number nor a list of such.
    ValueError
        If there is a list of another length than the dimension.
    """
    if is_integer(num_fno_modes):
        return [operator.index(num_fno_modes)] * dimension
    if not _are_integers(num_fno_modes):
        raise TypeError(f"expected num_fno_modes to be whole numbers, got {num_fno_modes!r}")
    if len(num_fno_modes) != dimension:
        raise ValueError(
            f"expected num_fno_modes to be one number, or a list of {dimension} for "
            f"dimension={dimension}, got {num_fno_modes}"
        )
    return [operator.index(modes) for modes in num_fno_modes]


def padding_of_each_axis(padding: Any, dimension: int) -> list[int]:
    """Return the padding of each axis: 0 where a list is too short, the surplus dropped.

    Raises
    ------
    TypeError
        If it is neither a whole number nor a list of such.
    ValueError
        If a number is negative.
    """
    if not is_integer(padding) and not _are_integers(padding):
        raise TypeError(f"expected padding to be whole numbers, got {padding!r}")
    given = [padding] * dimension if is_integer(padding) else padding
    widths = [operator.index(width) for width in given]
    if min(widths, default=0) < 0:
        raise ValueError(f"expected padding of at least 0 points, got {padding}")
    if len(widths) > dimension:
        warnings.warn(
            f"padding has {len(widths)} entries for dimension={dimension}; "
            f"not used: {widths[dimension:]}",
            stacklevel=2,
        )
    return (widths + [0] * dimension)[:dimension]


def check_padding_type(padding_type: str, widths: list[int]) -> None:
    """Raise an error if fields cannot be padded that way.

    Raises
    ------
    NotImplementedError
        If PyTorch lacks this type of padding for so many axes.
    ValueError
        If there is no such type.
    """
    check_choice("padding_type", padding_type, PADDING_TYPES)
    if padding_type != "constant" and len(widths) > 3 and any(widths):
        raise NotImplementedError(
            f"padding_type={padding_type!r} is not available for dimension={len(widths)}: PyTorch "
            f"has it for up to three grid axes; use 'constant', or padding=0"
        )


def _are_integers(values: Any) -> bool:
    return isinstance(values, Iterable) and all(map(is_integer, values))
