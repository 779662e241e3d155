# SPDX-License-Identifier: Apache-2.0
"""Which modes a filter keeps."""

import pytest

from physicsnemo.models.afno._filter import lowest_modes, reference_modes


def signed(frequencies, points) -> list[int]:
    """Return frequencies from -points / 2 to points / 2."""
    positive = (k % points for k in frequencies)
    return [k if 2 * k <= points else k - points for k in positive]


@pytest.mark.parametrize(
    ("grid", "fraction", "rows", "columns"),
    [
        ((6, 6), 1.0, [0, 1, 2, 3, -2, -1], 4),
        ((5, 9), 1.0, [0, 1, 2, -2, -1], 5),
        ((9, 5), 0.7, [0, 1, 2, -2, -1], 2),
        ((8, 8), 0.8, [0, 1, 2, 3, -3, -2, -1], 4),  # but for the highest one, alone at 4
        ((12, 12), 0.5, [0, 1, 2, -2, -1], 3),
        ((4, 12), 0.34, [0], 2),
    ],
)
def test_lowest_modes(grid, fraction, rows, columns):
    found, across = lowest_modes(grid, fraction)
    assert signed(found, grid[0]) == rows
    assert across == tuple(range(columns))


@pytest.mark.parametrize(
    ("grid", "fraction", "size", "rows", "columns"),
    [
        ((6, 6), 1.0, 6, [0, 1, 2, 3, -2, -1], 4),
        ((5, 9), 1.0, 5, [0, 1, 2, -2, -1], 3),  # the second axis has 5 frequencies
        ((9, 5), 1.0, 9, [0, 1, 2, 3, 4, -4, -3, -2, -1], 3),
        ((9, 5), 1.0, 5, [0, 1, 2, 3, 4, -4], 3),  # the window of the smaller axis
        ((9, 9), 0.5, 9, [3, 4, -4, -3], 2),  # low frequencies lost
    ],
)
def test_modes_of_the_reference_implementation(grid, fraction, size, rows, columns):
    found, across = reference_modes(grid, fraction, size)
    assert signed(found, grid[0]) == rows
    assert across == tuple(range(columns))


@pytest.mark.parametrize("grid", [(4, 4), (5, 5), (16, 16), (1, 1)])
def test_all_agree_on_the_whole_spectrum_of_a_square(grid):
    assert lowest_modes(grid, 1.0) == reference_modes(grid, 1.0, grid[0])


@pytest.mark.parametrize(
    "keep", [lambda: lowest_modes((9, 2), 0.3), lambda: reference_modes((2, 9), 0.3, 2)]
)
def test_no_mode(keep):
    with pytest.raises(ValueError, match=r"fraction=0.3 leaves no mode of a grid of \d by \d"):
        keep()
