# SPDX-License-Identifier: Apache-2.0
"""Which Fourier modes of a grid a filter acts on."""

from physicsnemo.nn.fourier import Frequencies

Grid = tuple[int, int]
Modes = tuple[Frequencies, Frequencies]
"""The kept frequencies of the first axis, and those of the second, from 0 upwards."""


def lowest_modes(grid: Grid, fraction: float) -> Modes:
    """Return the modes of low frequency along both axes.

    Parameters
    ----------
    grid
        Number of points along the two axes.
    fraction
        Of n points along an axis, the frequencies below ``int((n // 2 + 1) * fraction)`` are kept,
        and their negatives.

    Raises
    ------
    ValueError
        If no mode is left.
    """
    height = grid[0]
    k, columns = (int((n // 2 + 1) * fraction) for n in grid)
    if not (k and columns):
        raise ValueError(_no_mode(grid, fraction))
    rows = range(height) if 2 * k - 1 >= height else (*range(k), *range(1 - k, 0))
    return tuple(rows), tuple(range(columns))


def reference_modes(grid: Grid, fraction: float, size: int) -> Modes:
    """Return the modes that nvidia-physicsnemo keeps, by the size of one axis.

    Its window of rows is centred on the highest frequency, so that a fraction below 1 discards low
    frequencies of the first axis, and its number of columns does not follow from the width.

    Parameters
    ----------
    grid
        Number of points along the two axes.
    fraction
        How much of the window to keep.
    size
        The number of points that the window is made for.

    Raises
    ------
    ValueError
        If no mode is left.
    """
    height, width = grid
    total = size // 2 + 1
    kept = int(total * fraction)
    if not kept:
        raise ValueError(_no_mode(grid, fraction))
    rows = range(total - kept, min(total + kept, height))
    return tuple(rows), tuple(range(min(kept, width // 2 + 1)))


def _no_mode(grid: Grid, fraction: float) -> str:
    return (
        f"hard_thresholding_fraction={fraction} leaves no mode of a grid of {grid[0]} by {grid[1]} "
        f"tokens; take a larger fraction, or smaller patches"
    )
