# SPDX-License-Identifier: Apache-2.0
"""Truncation: which Fourier modes of an axis are kept."""

from collections.abc import Sequence

Frequencies = tuple[int, ...]
"""The kept frequencies of an axis, each once, in any order; ``-k`` is the same as ``n - k``."""


def check_frequencies(grid: Sequence[int], frequencies: Sequence[Frequencies]) -> None:
    """Raise ValueError unless a grid has these frequencies, and the last axis the first of its."""
    if len(frequencies) != len(grid):
        raise ValueError(
            f"expected frequencies for each of the {len(grid)} axes of the grid, "
            f"got those of {len(frequencies)}"
        )
    for axis, (n, kept) in enumerate(zip(grid, frequencies, strict=True), start=1):
        if not kept or min(kept) < -n or max(kept) >= n:
            raise ValueError(
                f"expected one or more frequencies from {-n} to {n - 1} along axis {axis} of the "
                f"grid, which has {n} points, got {kept}"
            )
    last, n = frequencies[-1], grid[-1]
    if len(last) > n // 2 + 1 or last != tuple(range(len(last))):
        raise ValueError(
            f"expected some of the frequencies 0 to {n // 2} along the last axis of the grid, "
            f"which has {n} points, from 0 upwards and none left out, got {last}"
        )


def runs(kept: Frequencies) -> list[tuple[int, int]]:
    """Return the first of each run of consecutive frequencies of one sign, and what follows it.

    Examples
    --------
    >>> from physicsnemo.nn.fourier.frequencies import runs
    >>> runs((-2, -1, 0, 1, 5))
    [(-2, 0), (0, 2), (5, 6)]
    """
    starts = [i for i, k in enumerate(kept) if k == 0 or i == 0 or k != kept[i - 1] + 1]
    stops = [*starts[1:], len(kept)]
    return [(kept[i], kept[j - 1] + 1) for i, j in zip(starts, stops, strict=True)]
