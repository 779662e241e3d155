# SPDX-License-Identifier: Apache-2.0
"""Linear interpolation on the sphere: source cells and weights of each target point."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from physicsnemo.utils.weather._coordinates import Reals

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

__all__ = ["barycentric", "bilinear", "unit_vectors"]

Cells = NDArray[np.int64]

# Number of points that are located at a time, which bounds the memory.
_CHUNK = 1 << 16
# Tolerance for round-off, which puts points on an edge into neither of its two triangles, and gives
# a small weight to cells that a point is not between.
_EDGE = 1e-12


def bilinear(
    latitudes: Reals, longitudes: Reals, target_latitudes: Reals, target_longitudes: Reals
) -> tuple[Cells, Reals]:
    """Bilinear interpolation from a global grid.

    Parameters
    ----------
    latitudes, longitudes
        Axes of the grid, in degrees and in any order.
    target_latitudes, target_longitudes
        Target points, in degrees.

    Returns
    -------
    Indices of the cells of the flattened grid, and their weights, each of shape (4, points).
    """
    rows, columns = latitudes.argsort(), (longitudes % 360).argsort()
    south_to_north, west_to_east = latitudes[rows], longitudes[columns] % 360
    # Across a pole lies the same outermost row, half a turn away: it is there once more, at the
    # latitude that it would have if latitudes went on.
    south, north = -180 - south_to_north[0], 180 - south_to_north[-1]
    parallels = np.concatenate(([south], south_to_north, [north]))
    # Longitudes wrap around: the last meridian is also before the first, the first after the last.
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
    """Barycentric interpolation in the Delaunay triangulation of source points.

    Parameters
    ----------
    sources, targets
        Unit vectors, of shape (points, 3).

    Returns
    -------
    Indices of the corners of each target's triangle, and their weights, each of shape (3, targets).

    References
    ----------
    Brown 1979, Voronoi diagrams from convex hulls: the Delaunay triangulation of points on a sphere
    is their convex hull.
    """
    from scipy.spatial import cKDTree

    triangles = _triangles(sources)
    corners = sources[triangles]
    inward = np.cross(np.roll(corners, -1, axis=1), np.roll(corners, -2, axis=1))
    inward *= np.sign(np.einsum("ti,ti->t", inward[:, 0], corners[:, 0]))[:, None, None]
    centroids = cKDTree(corners.mean(axis=1))
    chunks = np.split(targets, range(_CHUNK, len(targets), _CHUNK))
    found = np.concatenate([_containing(chunk, inward, centroids) for chunk in chunks])
    weights = np.einsum("ni,nci->cn", targets, inward[found])
    weights /= weights.sum(axis=0)
    return triangles[found].T, np.where(weights > _EDGE, weights, 0)


def unit_vectors(latitudes: Reals, longitudes: Reals) -> Reals:
    """Return the unit vectors of points in degrees, of shape (..., 3)."""
    latitudes, longitudes = np.deg2rad(latitudes), np.deg2rad(longitudes)
    radius = np.cos(latitudes)
    xyz = radius * np.cos(longitudes), radius * np.sin(longitudes), np.sin(latitudes)
    return np.stack(xyz, axis=-1)


def _between(axis: Reals, points: Reals) -> Iterator[tuple[Cells, Reals]]:
    """Yield the indices before and after each point on an axis, each with its weight."""
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


def _containing(points: Reals, inward: Reals, centroids: "cKDTree") -> Cells:
    """Return the triangle that contains each point, among ever more triangles near it."""
    found = np.empty(len(points), dtype=np.int64)
    left, count = np.arange(len(points)), 4
    while left.size:
        count = min(count, len(inward))
        _, near = centroids.query(points[left], k=count)
        depth = np.einsum("ni,nkci->nkc", points[left], inward[near]).min(axis=-1)
        best = depth.argmax(axis=-1)[:, None]
        found[left] = np.take_along_axis(near, best, axis=1)[:, 0]
        inside = np.take_along_axis(depth, best, axis=1)[:, 0] >= -_EDGE
        left, count = left[~inside & (count < len(inward))], 4 * count
    return found
