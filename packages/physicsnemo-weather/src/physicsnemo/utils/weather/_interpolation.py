# SPDX-License-Identifier: Apache-2.0
"""Linear interpolation on the sphere: which cells a point lies between, and how much of each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from physicsnemo.utils.weather._places import Reals

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

__all__ = ["barycentric", "bilinear", "unit_vectors"]

Cells = NDArray[np.int64]

# Points whose triangles are searched at once, for the sake of memory.
_CHUNK = 1 << 16
# What may be round-off: it puts points on an edge into neither of the triangles beside it, and
# lets cells have a weight in whose direction a point does not lie.
_EDGE = 1e-12


def bilinear(
    latitudes: Reals, longitudes: Reals, target_latitudes: Reals, target_longitudes: Reals
) -> tuple[Cells, Reals]:
    """Find the four cells of a grid around each point.

    Parameters
    ----------
    latitudes, longitudes
        The axes of a grid around the globe, in degrees and any order.
    target_latitudes, target_longitudes
        The points.

    Returns
    -------
    Cells of the flattened grid, and their weights, each of shape (4, points).
    """
    rows, columns = latitudes.argsort(), (longitudes % 360).argsort()
    south_to_north, west_to_east = latitudes[rows], longitudes[columns] % 360
    # Beyond a pole, a row goes on as the same row half a turn away.
    south, north = -180 - south_to_north[0], 180 - south_to_north[-1]
    parallels = np.concatenate(([south], south_to_north, [north]))
    meridians = np.concatenate(([west_to_east[-1] - 360], west_to_east, [west_to_east[0] + 360]))
    cells, weights = [], []
    for parallel, row_weight in _between(parallels, target_latitudes):
        row = np.clip(parallel, 1, len(rows)) - 1
        turn = np.where(row + 1 == parallel, 0, 180)
        for meridian, weight in _between(meridians, (target_longitudes + turn) % 360):
            column = (meridian - 1) % len(columns)
            cells.append(rows[row] * len(columns) + columns[column])
            weights.append(row_weight * weight)
    return np.stack(cells), np.stack(weights)


def barycentric(sources: Reals, targets: Reals) -> tuple[Cells, Reals]:
    """Find the triangle of sources around each target, among those of their Delaunay triangulation.

    That triangulation of points on a sphere is their convex hull (Brown 1979, Voronoi diagrams
    from convex hulls).

    Parameters
    ----------
    sources, targets
        Unit vectors, of shape (points, 3).

    Returns
    -------
    The corners of the triangle and their weights, each of shape (3, targets).
    """
    from scipy.spatial import cKDTree

    triangles = _triangles(sources)
    corners = sources[triangles]
    inward = np.cross(np.roll(corners, -1, axis=1), np.roll(corners, -2, axis=1))
    inward *= np.sign(np.einsum("ti,ti->t", inward[:, 0], corners[:, 0]))[:, None, None]
    centres = cKDTree(corners.mean(axis=1))
    chunks = np.split(targets, range(_CHUNK, len(targets), _CHUNK))
    found = np.concatenate([_containing(chunk, inward, centres) for chunk in chunks])
    weights = np.einsum("ni,nci->cn", targets, inward[found])
    weights /= weights.sum(axis=0)
    return triangles[found].T, np.where(weights > _EDGE, weights, 0)


def unit_vectors(latitudes: Reals, longitudes: Reals) -> Reals:
    """Return unit vectors, of shape (..., 3), to places in degrees."""
    latitudes, longitudes = np.deg2rad(latitudes), np.deg2rad(longitudes)
    radius = np.cos(latitudes)
    xyz = radius * np.cos(longitudes), radius * np.sin(longitudes), np.sin(latitudes)
    return np.stack(xyz, axis=-1)


def _between(axis: Reals, points: Reals) -> Iterator[tuple[Cells, Reals]]:
    """Yield the coordinates before and after points, and the weight of each."""
    before = np.searchsorted(axis, points, side="right").clip(1, len(axis) - 1) - 1
    width = axis[before + 1] - axis[before]
    after = (points - axis[before]) / np.where(width > 0, width, 1)
    after = np.where(after > _EDGE, np.where(after < 1 - _EDGE, after, 1), 0)
    yield before, 1 - after
    yield before + 1, after


def _triangles(sources: Reals) -> Cells:
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(sources)
    except QhullError as error:
        raise ValueError(
            f"expected points all around the globe, got {len(sources)} that span no volume"
        ) from error
    if (hull.equations[:, -1] >= 0).any():
        raise ValueError("expected points all around the globe, got some on one half of it only")
    triangles: Cells = hull.simplices.astype(np.int64)
    return triangles


def _containing(points: Reals, inward: Reals, centres: "cKDTree") -> Cells:
    """Return the triangle that each point is in, looking among more and more that are near."""
    found = np.empty(len(points), dtype=np.int64)
    left, count = np.arange(len(points)), 4
    while left.size:
        count = min(count, len(inward))
        _, near = centres.query(points[left], k=count)
        depth = np.einsum("ni,nkci->nkc", points[left], inward[near]).min(axis=-1)
        best = depth.argmax(axis=-1)[:, None]
        found[left] = np.take_along_axis(near, best, axis=1)[:, 0]
        inside = np.take_along_axis(depth, best, axis=1)[:, 0] >= -_EDGE
        left, count = left[~inside & (count < len(inward))], 4 * count
    return found
