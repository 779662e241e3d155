# SPDX-License-Identifier: Apache-2.0
"""Which cells lie around the faces of the HEALPix grid.

Faces 0 to 3 are around the north pole, 4 to 7 around the equator and 8 to 11 around the south pole,
each four following each other eastwards. A face stands on a corner: its rows run from its northern
corner to the south-west, its columns to the south-east.

Four faces meet at each pole, and at four points of the equator; at the eight other corners three
do, so that one cell is missing. Beside a polar face, the rim then repeats the cell next to the
corner; beside a face of the equator, it holds the mean of the two cells that are next to it.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["FACES", "around_healpix"]

FACES = 12

Cells = NDArray[np.int64]


def around_healpix(size: int, padding: int) -> Cells:
    """Return the cells, of shape (padded cells, 2), whose mean each padded cell is.

    Parameters
    ----------
    size
        Cells along an edge of a face.
    padding
        Width of the rim, at most ``size``.
    """
    faces = np.arange(FACES * size * size).reshape(3, 4, size, size)
    north, south = _north(faces, padding), _south(faces, padding)
    equators = (_equator(faces, padding, first) for first in (True, False))
    sources = [np.concatenate((north, equator, south)).ravel() for equator in equators]
    return np.stack(sources, axis=-1)


def _north(faces: Cells, p: int) -> Cells:
    north, equator, south = faces
    east, west = _eastern(north), _western(north)
    return _assembled(
        (_turned(_eastern(east), 2), _turned(east, 1), east),
        (_turned(west, -1), north, _eastern(equator)),
        (west, equator, south),
        p,
    )


def _equator(faces: Cells, p: int, first: bool) -> Cells:
    north, equator, south = faces
    north_west, south_west = _western(north), _western(south)
    top = _missing(north, north_west, p, first)
    bottom = _turned(_missing(_turned(south_west, 2), _turned(south, 2), p, first), 2)
    return _assembled(
        (top, north, _eastern(equator)),
        (north_west, equator, south),
        (_western(equator), south_west, bottom),
        p,
    )


def _south(faces: Cells, p: int) -> Cells:
    north, equator, south = faces
    east, west = _eastern(south), _western(south)
    return _assembled(
        (north, _eastern(equator), east),
        (equator, south, _turned(east, -1)),
        (west, _turned(west, 1), _turned(_eastern(east), 2)),
        p,
    )


def _missing(above: Cells, left: Cells, p: int, first: bool) -> Cells:
    """Return cells for the corner between two faces, continuing the one above and the one left.

    Each continues as far as the diagonal, where the first of them is taken or the second.
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
    above: tuple[Cells, ...], beside: tuple[Cells, ...], below: tuple[Cells, ...], p: int
) -> Cells:
    """Cut the rim out of the neighbours of faces, each row from left to right."""
    parts = slice(-p, None), slice(None), slice(p)
    return np.block(
        [
            [face[:, rows, columns] for face, columns in zip(faces, parts, strict=True)]
            for faces, rows in zip((above, beside, below), parts, strict=True)
        ]
    )


def _eastern(faces: Cells) -> Cells:
    """Return the eastern neighbours within four faces around the globe."""
    return np.roll(faces, -1, axis=0)


def _western(faces: Cells) -> Cells:
    return np.roll(faces, 1, axis=0)


def _turned(faces: Cells, quarters: int) -> Cells:
    return np.rot90(faces, quarters, axes=(-2, -1))
