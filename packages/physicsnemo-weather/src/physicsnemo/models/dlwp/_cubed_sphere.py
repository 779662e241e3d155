# SPDX-License-Identifier: Apache-2.0
"""Neighbor cells of the faces of the cubed sphere.

Rows of the equatorial faces 0 to 3 run northward, columns eastward, and face ``i + 1`` lies east of
face ``i``. Face 4 is around the south pole, with face 0 beyond its last row; face 5 is around the
north pole, with face 0 before its first row. Corners of the cube have no cell beyond them: there,
the padding repeats the cell next to the corner.

Face 5 is stored here with its columns reversed, as the mirror image of face 4. Cyclones rotate in
opposite directions on the two hemispheres, and so alike in the weights that both polar faces share.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EQUATORIAL", "FACES", "around_cube", "around_cube_as_reference"]

EQUATORIAL, FACES = 4, 6

Cells = NDArray[np.int64]


def around_cube(size: int, padding: int) -> Cells:
    """Return the source cells of the padding of a cubed sphere, of shape (padded cells, 1).

    Parameters
    ----------
    size
        Cells along an edge of a face.
    padding
        Width of the padding, at most ``size``.
    """
    faces = _faces(size)
    opposite = _rotated(faces[2], 2)
    return _padded(faces, before_south=opposite, after_north=opposite, p=padding)


def around_cube_as_reference(size: int, padding: int) -> Cells:
    """Return the same, with the opposite pole in the place of face 2 beyond the polar faces."""
    faces = _faces(size)
    return _padded(faces, before_south=faces[5], after_north=faces[4], p=padding)


def _faces(size: int) -> Cells:
    faces = np.arange(FACES * size * size).reshape(FACES, size, size)
    faces[5] = faces[5, :, ::-1]
    return faces


def _padded(faces: Cells, *, before_south: Cells, after_north: Cells, p: int) -> Cells:
    south, north = faces[4:]
    padded = []
    for i in range(EQUATORIAL):
        # Each further equatorial face meets the polar ones at the next of their edges.
        below, above = _rotated(south, -i)[-p:], _rotated(north, i)[:p]
        west, east = faces[(i - 1) % EQUATORIAL], faces[(i + 1) % EQUATORIAL]
        rows = [west[:, -p:], faces[i], east[:, :p]]
        padded.append(np.block([_widened(below, p), rows, _widened(above, p)]))
    for face, turn, below, above in (
        (south, -1, before_south, faces[0]),
        (north, 1, faces[0], after_north),
    ):
        left, right = _rotated(faces[3], turn)[:, -p:], _rotated(faces[1], -turn)[:, :p]
        columns = [_widened(left.T, p), [below[-p:].T, face.T, above[:p].T], _widened(right.T, p)]
        padded.append(np.block(columns).T)
    padded[5] = padded[5][:, ::-1]
    return np.stack(padded).reshape(-1, 1)


def _rotated(face: Cells, quarters: int) -> Cells:
    return np.rot90(face, quarters)


def _widened(rows: Cells, p: int) -> list[Cells]:
    """Return rows with their ends repeated on either side, for the corners without a cell."""
    return [rows[:, :p], rows, rows[:, -p:]]
