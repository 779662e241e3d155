# SPDX-License-Identifier: Apache-2.0
"""Which cells lie around the faces of a cubed sphere.

Rows of the equatorial faces 0 to 3 run northwards, columns eastwards, and face ``i + 1`` lies east
of face ``i``. Face 4 is around the south pole, and face 0 beyond its last row; face 5 is around the
north pole, and face 0 before its first row. A corner of the cube has no cell beyond it: there, the
rim repeats the cell beside it.

Here face 5 is stored with its columns reversed. Then a cell of it and the one in the same place of
face 4 lie opposite each other on the globe, and weights that both share see cyclones turn one way.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EQUATORIAL", "FACES", "around_cube", "around_cube_as_reference"]

EQUATORIAL, FACES = 4, 6

Cells = NDArray[np.int64]


def around_cube(size: int, padding: int) -> Cells:
    """Return the cell, of shape (padded cells, 1), that each padded cell copies.

    Parameters
    ----------
    size
        Cells along an edge of a face.
    padding
        Width of the rim, at most ``size``.
    """
    faces = _faces(size)
    return _padded(faces, _turned(faces[2], 2), _turned(faces[2], 2), padding)


def around_cube_as_reference(size: int, padding: int) -> Cells:
    """Return the same, with the opposite pole instead of face 2 beyond the polar faces."""
    faces = _faces(size)
    return _padded(faces, faces[5], faces[4], padding)


def _faces(size: int) -> Cells:
    faces = np.arange(FACES * size * size).reshape(FACES, size, size)
    faces[5] = faces[5, :, ::-1]
    return faces


def _padded(faces: Cells, before_south: Cells, after_north: Cells, p: int) -> Cells:
    south, north = faces[4:]
    padded = []
    for i in range(EQUATORIAL):
        below, above = _turned(south, -i)[-p:], _turned(north, i)[:p]
        west, east = faces[(i - 1) % EQUATORIAL], faces[(i + 1) % EQUATORIAL]
        rows = [west[:, -p:], faces[i], east[:, :p]]
        padded.append(np.block([_widened(below, p), rows, _widened(above, p)]))
    for face, turn, below, above in (
        (south, -1, before_south, faces[0]),
        (north, 1, faces[0], after_north),
    ):
        left, right = _turned(faces[3], turn)[:, -p:], _turned(faces[1], -turn)[:, :p]
        columns = [_widened(left.T, p), [below[-p:].T, face.T, above[:p].T], _widened(right.T, p)]
        padded.append(np.block(columns).T)
    padded[5] = padded[5][:, ::-1]
    return np.stack(padded).reshape(-1, 1)


def _turned(face: Cells, quarters: int) -> Cells:
    return np.rot90(face, quarters)


def _widened(rows: Cells, p: int) -> list[Cells]:
    """Return rows with their ends repeated on either side."""
    return [rows[:, :p], rows, rows[:, -p:]]
