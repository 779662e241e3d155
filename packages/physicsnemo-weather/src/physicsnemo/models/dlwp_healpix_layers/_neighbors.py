# SPDX-License-Identifier: Apache-2.0
"""Neighbor cells of the faces of the HEALPix grid.

Faces 0 to 3 are around the north pole, 4 to 7 on the equator and 8 to 11 around the south pole,
each four eastward. A face stands on a corner: its rows run from its northern corner to the
southwest, its columns to the southeast.

Four faces meet at each pole, and at four points of the equator. At the eight other corners three
do, so that a corner of the padding has no cell there: polar faces repeat the cell next to the
corner, equatorial faces take the mean of the two cells next to it.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["FACES", "around_healpix"]

FACES = 12

Cells = NDArray[np.int64]


def around_healpix(size: int, padding: int) -> Cells:
    """Return the source cells of HEALPix padding, of shape (padded cells, 2).

    Each padded cell is the mean of its two source cells, which are equal but at corners.

    Parameters
    ----------
    size
        Cells along an edge of a face.
    padding
        Width of the padding, at most ``size``.
    """
    faces = np.arange(FACES * size * size).reshape(3, 4, size, size)
    north, south = _north(faces, padding), _south(faces, padding)
    # The two ways to fill the missing corners of equatorial faces, whose mean is taken.
    equators = (_equator(faces, padding, first) for first in (True, False))
    sources = [np.concatenate((north, equator, south)).ravel() for equator in equators]
    return np.stack(sources, axis=-1)


def _north(faces: Cells, p: int) -> Cells:
    north, equator, south = faces
    east, west = _eastern(north), _western(north)
    # Rows and columns turn across the edges that polar faces share, and across the pole. The
    # eastern and the western corner, above right and below left, have no cell: `east` and `west`
    # fill them.
    return _assembled(
        above=(_rotated(_eastern(east), 2), _rotated(east, 1), east),
        beside=(_rotated(west, -1), north, _eastern(equator)),
        below=(west, equator, south),
        p=p,
    )


def _equator(faces: Cells, p: int, first: bool) -> Cells:
    north, equator, south = faces
    north_west, south_west = _western(north), _western(south)
    # The northern and the southern corner, above left and below right, have no cell; the other two
    # belong to the neighbors on the equator.
    top = _missing_corner(north, north_west, p=p, first=first)
    bottom = _missing_corner(_rotated(south_west, 2), _rotated(south, 2), p=p, first=first)
    return _assembled(
        above=(top, north, _eastern(equator)),
        beside=(north_west, equator, south),
        below=(_western(equator), south_west, _rotated(bottom, 2)),
        p=p,
    )


def _south(faces: Cells, p: int) -> Cells:
    north, equator, south = faces
    east, west = _eastern(south), _western(south)
    return _assembled(
        above=(north, _eastern(equator), east),
        beside=(equator, south, _rotated(east, -1)),
        below=(west, _rotated(west, 1), _rotated(_eastern(east), 2)),
        p=p,
    )


def _missing_corner(above: Cells, left: Cells, *, p: int, first: bool) -> Cells:
    """Fill a corner without cells by continuing the face above and the face left of it.

    Each fills the triangle on its side; the diagonal gets the first of the two, or the second.
    """
    corner = np.empty((4, p, p), dtype=np.int64)
    for i in range(p):
        row, column = above[:, -1 - i, : i + 1], left[:, : i + 1, -1 - i]
        diagonal = row[:, 0] if first else column[:, 0]
        corner[:, p - 1 - i, p - i :] = row[:, :i]
        corner[:, p - i :, p - 1 - i] = column[:, :i]
        corner[:, p - 1 - i, p - 1 - i] = diagonal
    return corner


def _assembled(
    *, above: tuple[Cells, ...], beside: tuple[Cells, ...], below: tuple[Cells, ...], p: int
) -> Cells:
    """Pad faces by strips of their neighbors, which are given in rows from left to right."""
    parts = slice(-p, None), slice(None), slice(p)
    return np.block(
        [
            [face[:, rows, columns] for face, columns in zip(faces, parts, strict=True)]
            for faces, rows in zip((above, beside, below), parts, strict=True)
        ]
    )


def _eastern(faces: Cells) -> Cells:
    """Return the eastern neighbors among four faces around the globe."""
    return np.roll(faces, -1, axis=0)


def _western(faces: Cells) -> Cells:
    return np.roll(faces, 1, axis=0)


def _rotated(faces: Cells, quarters: int) -> Cells:
    return np.rot90(faces, quarters, axes=(-2, -1))
