# SPDX-License-Identifier: Apache-2.0
"""Durations as configurations write them."""

import re
from fractions import Fraction

__all__ = ["hours"]

_HOURS = {"m": Fraction(1, 60), "h": Fraction(1), "d": Fraction(24)}  # by a unit's first letter
_DURATION = r"\s*(\d+(?:\.\d+)?)\s*(min|minutes?|h|hr|hours?|d|days?)\s*"


def hours(duration: str) -> Fraction:
    """Return how many hours a duration is.

    Parameters
    ----------
    duration
        A number and a unit, minutes, hours or days, as in ``30min``, ``6h`` or ``1 day``.

    Raises
    ------
    ValueError
        If it is no such text, or the number is zero.

    Examples
    --------
    >>> from physicsnemo.models.dlwp_healpix._durations import hours
    >>> int(hours("1.5d"))
    36
    """
    match = re.fullmatch(_DURATION, str(duration).lower())
    if match is None or not float(match[1]):
        raise ValueError(f"expected a duration such as '6h', '30min' or '1d', got {duration!r}")
    return Fraction(match[1]) * _HOURS[match[2][0]]
