# SPDX-License-Identifier: Apache-2.0
"""Geometry of GraphCast's graphs: coordinates, grid-mesh edges, features of edges and vertices."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from physicsnemo.models.graphcast.icosahedral_mesh import (
    Integers,
    Reals,
    TriangularMesh,
    face_of_points,
)

# Radius within which points are joined to vertices, in lengths of the finest mesh's longest edge.
_RADIUS = 0.6
# No point has more vertices within that radius: a circle around four of them is wider.
_MOST_VERTICES = 4
# Number of edges whose features are computed at a time, which bounds the memory.
_CHUNK = 1 << 17


class Coordinates(NamedTuple):
    """Points on the sphere: latitude and longitude in radians, and positions of shape (points, 3).

    The longitude of a pole is arbitrary, but says which way is east.
    """

    lat: Reals
    lon: Reals
    xyz: Reals

    @classmethod
    def of_grid(cls, height: int, width: int, precision: npt.DTypeLike = np.float64) -> Self:
        """Return an equiangular grid, row by row from the south pole to the north pole.

        Longitudes begin one step east of the date line and end at it. Angles are rounded to the
        precision.
        """
        # -180 and 180 degrees are one meridian: it is there once, as the last.
        lat, lon = np.linspace(-90, 90, height), np.linspace(-180, 180, width + 1)[1:]
        lat, lon = (axis.ravel() for axis in np.meshgrid(lat, lon, indexing="ij"))
        lat, lon = (np.deg2rad(angle).astype(precision).astype(np.float64) for angle in (lat, lon))
        flat = np.cos(lat)
        return cls(lat, lon, np.stack((flat * np.cos(lon), flat * np.sin(lon), np.sin(lat)), -1))

    @classmethod
    def of_points(cls, xyz: Reals) -> Self:
        """Return points on the unit sphere."""
        x, y, z = xyz.T
        return cls(np.arcsin(np.clip(z, -1, 1)), np.arctan2(y, x), xyz)


def edge_features(edges: Integers, sources: Coordinates, targets: Coordinates) -> Reals:
    """Compute the displacement of each edge's source in the local frame of its target.

    Returns
    -------
    The components upwards, eastwards and northwards and the length, in units of the longest edge,
    of shape (edges, 4).
    """
    frames = _local_frames(targets)
    features = np.empty((edges.shape[1], 4))
    for start in range(0, len(features), _CHUNK):
        source, target = edges[:, start : start + _CHUNK]
        away = sources.xyz[source] - targets.xyz[target]
        part = features[start : start + _CHUNK]
        part[:, :3] = np.einsum("ekd,ed->ek", frames[target], away)
        part[:, 3] = np.linalg.norm(away, axis=1)
    features /= features[:, 3].max()
    return features


def node_features(nodes: Coordinates) -> Reals:
    """Compute the sine of latitude, and sine and cosine of longitude, of shape (nodes, 3)."""
    # The supplement of Lam et al. 2023 says "cosine of the latitude", which does not tell a vertex
    # from its mirror image across the equator. The authors' code has the cosine of the colatitude,
    # the angle from the north pole, which is the sine of the latitude.
    return np.stack((np.sin(nodes.lat), np.sin(nodes.lon), np.cos(nodes.lon)), axis=1)


def node_features_of_degrees(nodes: Coordinates) -> Reals:
    """Compute cosine of latitude, sine and cosine of longitude, of degrees taken for radians."""
    lat, lon = np.rad2deg(nodes.lat), np.rad2deg(nodes.lon)
    return np.stack((np.cos(lat), np.sin(lon), np.cos(lon)), axis=1)


def _local_frames(points: Coordinates) -> Reals:
    """Return the directions up, east and north at each point, of shape (points, 3, 3)."""
    lat, lon = points.lat, points.lon
    zero = np.zeros_like(lon)
    east = np.stack((-np.sin(lon), np.cos(lon), zero), axis=-1)
    north = np.stack((-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)), -1)
    return np.stack((points.xyz, east, north), axis=1)


def grid_to_mesh(points: Reals, mesh: TriangularMesh, least: int = 1) -> Integers:
    """Join each grid point to the mesh vertices within a radius.

    Parameters
    ----------
    points
        Grid points, of shape (points, 3).
    mesh
        The finest mesh.
    least
        Number of nearest vertices that are joined at any distance.

    Returns
    -------
    Source and target index of each edge, of shape (2, edges), sorted by point and then by distance.
    """
    distance, vertex = _nearest(points, mesh.vertices, _MOST_VERTICES)
    near = distance <= _RADIUS * mesh.edge_lengths.max()
    # A point in a flat triangle is at most 0.58 of an edge from a corner, and so within the radius;
    # but the triangles of a coarse mesh are not flat: the sphere bulges out of them.
    near[:, :least] = True
    point, rank = np.nonzero(near)
    return np.stack((point, vertex[point, rank]))


def mesh_to_grid(points: Reals, meshes: list[TriangularMesh]) -> Integers:
    """Join the corners of the finest triangle that contains each grid point to the point."""
    return _from_corners(meshes[-1].faces[face_of_points(points, meshes)])


def mesh_to_grid_by_centroid(points: Reals, meshes: list[TriangularMesh]) -> Integers:
    """Join the corners of the triangle, of any mesh, whose centroid is nearest to each point."""
    # Many points are equally near to two centroids. Weights were trained with the one that the
    # search of scikit-learn comes upon first, so the same search decides here.
    from sklearn.neighbors import NearestNeighbors

    vertices, faces = meshes[-1].vertices, np.concatenate([mesh.faces for mesh in meshes])
    search = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(vertices[faces].mean(axis=1))
    nearest = search.kneighbors(points, return_distance=False)[:, 0]
    return _from_corners(faces[nearest])


def _nearest(points: Reals, vertices: Reals, count: int) -> tuple[Reals, Integers]:
    """Return distances and indices of the vertices nearest to each point, the nearest first."""
    from scipy.spatial import cKDTree

    distance, index = cKDTree(vertices).query(points, k=range(1, count + 1))
    return distance, index


def _from_corners(corners: Integers) -> Integers:
    return np.stack((corners.ravel(), np.arange(len(corners)).repeat(3)))
