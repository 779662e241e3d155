# SPDX-License-Identifier: Apache-2.0
"""Edges between the points of a grid and the vertices of a mesh."""

import numpy as np

from physicsnemo.models.graphcast.icosahedral_mesh import (
    Integers,
    Reals,
    TriangularMesh,
    face_of_points,
)

# The share of the longest edge of the finest mesh within which vertices are joined.
_REACH = 0.6
# No point has more vertices so close: a circle around four of them is wider.
_MOST = 4


def grid_to_mesh(points: Reals, mesh: TriangularMesh, least: int = 1) -> Integers:
    """Join each point of the grid to the vertices that are close.

    Every point is in a triangle, and no further from one of its corners than 0.58 of an edge, and
    so in reach; but for a mesh so coarse that the sphere bulges out of it.

    Parameters
    ----------
    points
        The points of the grid, of shape (points, 3).
    mesh
        The mesh.
    least
        How many of the closest vertices to join in any case.

    Returns
    -------
    Source and target of each edge, of shape (2, edges), sorted by point and then by distance.
    """
    distance, vertex = _closest(points, mesh.vertices, _MOST)
    near = distance <= _REACH * mesh.edge_lengths.max()
    near[:, :least] = True
    point, place = np.nonzero(near)
    return np.stack((point, vertex[point, place]))


def mesh_to_grid(points: Reals, meshes: list[TriangularMesh]) -> Integers:
    """Join the corners of the finest triangle around each point of the grid to the point."""
    return _from_corners(meshes[-1].faces[face_of_points(points, meshes)])


def mesh_to_grid_by_centroid(points: Reals, meshes: list[TriangularMesh]) -> Integers:
    """Join the corners of the triangle, of any mesh, whose centroid is nearest to each point.

    Many points are equally near to two centroids. Weights were trained with the one that the search
    of scikit-learn comes upon first, so the same search decides here.
    """
    from sklearn.neighbors import NearestNeighbors

    vertices, faces = meshes[-1].vertices, np.concatenate([mesh.faces for mesh in meshes])
    search = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(vertices[faces].mean(axis=1))
    nearest = search.kneighbors(points, return_distance=False)[:, 0]
    return _from_corners(faces[nearest])


def _closest(points: Reals, places: Reals, count: int) -> tuple[Reals, Integers]:
    """Return distances and numbers of the places closest to each point, the closest first."""
    from scipy.spatial import cKDTree

    distance, number = cKDTree(places).query(points, k=range(1, count + 1))
    return distance, number


def _from_corners(corners: Integers) -> Integers:
    return np.stack((corners.ravel(), np.arange(len(corners)).repeat(3)))
