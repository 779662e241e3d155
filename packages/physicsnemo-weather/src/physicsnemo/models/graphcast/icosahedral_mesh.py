# SPDX-License-Identifier: Apache-2.0
"""Icosahedral meshes of the sphere, by refinement, and which of their vertices are near."""

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from physicsnemo.nn.checks import check_at_least

__all__ = [
    "TriangularMesh",
    "face_of_points",
    "mesh_edges",
    "mesh_hierarchy",
    "mesh_within_hops",
    "within_hops",
]

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FACES = [
    (0, 1, 2), (0, 6, 1), (8, 0, 2), (8, 4, 0), (3, 8, 2), (3, 2, 7), (7, 2, 1), (0, 4, 6),
    (4, 11, 6), (6, 11, 5), (1, 5, 7), (4, 10, 11), (4, 8, 10), (10, 8, 3), (10, 3, 9),
    (11, 10, 9), (11, 9, 5), (5, 9, 7), (9, 3, 7), (1, 6, 5),
]  # fmt: skip
# Number of points that are located at a time, which bounds the memory.
_CHUNK = 1 << 15
# Number of nodes that walks start from at a time, a multiple of 64, as they are packed as bits.
_HOP_CHUNK = 1 << 13
# Points so close to a side are on it, however their coordinates were rounded.
_ON_SIDE = 1e-12


class TriangularMesh(NamedTuple):
    """Triangular mesh of the unit sphere.

    Parameters
    ----------
    vertices
        Vertex positions, of shape (vertices, 3).
    faces
        Vertex indices of each triangle, counterclockwise seen from outside, of shape (faces, 3).
    """

    vertices: Reals
    faces: Integers

    @property
    def corners(self) -> Reals:
        """Corner positions of each triangle, of shape (faces, 3, 3)."""
        return self.vertices[self.faces]

    @property
    def edge_lengths(self) -> Reals:
        """Lengths of the straight edges of each triangle, of shape (faces, 3)."""
        lengths: Reals = np.linalg.norm(self.corners - np.roll(self.corners, -1, axis=1), axis=-1)
        return lengths


def mesh_hierarchy(level: int) -> list[TriangularMesh]:
    """Refine the icosahedron up to a level, and return all meshes, the coarsest first.

    Each face is split into four at the midpoints of its edges. The vertices of a mesh are the first
    ones of the next, and face ``i`` is split into the next mesh's faces ``4 * i`` to ``4 * i + 3``,
    the last of which is the central one.

    Parameters
    ----------
    level
        Number of refinements.

    Returns
    -------
    ``level + 1`` meshes; that of level k has ``10 * 4**k + 2`` vertices and ``20 * 4**k`` faces.

    Raises
    ------
    ValueError
        If ``level`` is negative.

    References
    ----------
    Lam et al. 2022, arXiv:2212.12794, section 3.4 of the supplement.

    Examples
    --------
    >>> from physicsnemo.models.graphcast.icosahedral_mesh import mesh_hierarchy
    >>> [mesh.vertices.shape[0] for mesh in mesh_hierarchy(3)]
    [12, 42, 162, 642]
    """
    check_at_least(0, level=level)
    meshes = [_icosahedron()]
    for _ in range(level):
        meshes.append(_divide(meshes[-1]))
    return meshes


def mesh_edges(meshes: list[TriangularMesh]) -> Integers:
    """Return the edges of all meshes, in both directions, sorted and without duplicates.

    Parameters
    ----------
    meshes
        Meshes of :func:`mesh_hierarchy`: all for the multimesh, or the last alone.

    Returns
    -------
    Source and target index of each edge, of shape (2, edges).
    """
    count = meshes[-1].vertices.shape[0]
    faces = np.concatenate([mesh.faces for mesh in meshes])
    one, other = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    keys = np.unique(np.concatenate((one * count + other, other * count + one)))
    return np.stack(np.divmod(keys, count))


def face_of_points(points: Reals, meshes: list[TriangularMesh]) -> Integers:
    """Find the face of the finest mesh that contains each point.

    Faces are split along great circles, so a point's face is one of the four that its face in the
    next coarser mesh is split into: the search descends the hierarchy.

    Parameters
    ----------
    points
        Points on the unit sphere, of shape (points, 3).
    meshes
        All meshes, by :func:`mesh_hierarchy`.

    Returns
    -------
    Face index of each point, of shape (points,). Ties, on edges and vertices, depend on the mesh
    alone, so that all machines build the same graph.
    """
    roots = _sides(meshes[0].corners)
    middles = [_sides(mesh.corners[3::4]) for mesh in meshes[1:]]
    chunks = np.split(points, range(_CHUNK, len(points), _CHUNK))
    return np.concatenate([_descend(chunk, roots, middles) for chunk in chunks])


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def mesh_within_hops(mesh_level: int, multimesh: bool, hops: int) -> Tensor | None:
    """Compute the k-hop neighborhoods of a mesh, as an attention mask.

    Returns
    -------
    True for pairs of vertices at most ``hops`` edges apart, of shape (vertices, vertices); None if
    that is all of them.
    """
    meshes = mesh_hierarchy(mesh_level)
    edges = mesh_edges(meshes if multimesh else meshes[-1:])
    joined = within_hops(edges, meshes[-1].vertices.shape[0], hops)
    return None if joined.all() else torch.from_numpy(joined)


def within_hops(edges: Integers, num_nodes: int, hops: int) -> npt.NDArray[np.bool_]:
    """Compute k-hop neighborhoods: pairs of nodes that a walk of 1 to ``hops`` edges joins.

    A walk of two edges leads from a node back to itself.

    Parameters
    ----------
    edges
        Edges in both directions, sorted by source, at least one at each node, of shape (2, edges).
    num_nodes
        Number of nodes.
    hops
        Length of the longest walk.
    """
    source, neighbor = edges
    indptr = np.searchsorted(source, np.arange(num_nodes))
    joined = np.empty((num_nodes, num_nodes), bool)
    for first in range(0, num_nodes, _HOP_CHUNK):
        count = min(_HOP_CHUNK, num_nodes - first)
        itself = np.packbits(np.eye(num_nodes, _HOP_CHUNK, -first, dtype=bool), axis=1)
        reached = _hop(itself.view(np.uint64), neighbor, indptr)
        for _ in range(hops - 1):
            further = reached | _hop(reached, neighbor, indptr)
            if np.array_equal(further, reached):
                break
            reached = further
        joined[:, first : first + count] = np.unpackbits(
            reached.view(np.uint8), axis=1, count=count
        )
    return joined


def _icosahedron() -> TriangularMesh:
    phi = (1 + np.sqrt(5)) / 2
    vertices = np.array(
        [
            vertex
            for one, two in product((1.0, -1.0), (phi, -phi))
            for vertex in ((one, two, 0.0), (0.0, one, two), (two, 0.0, one))
        ]
    )
    # Rotated so that a face is centered at each pole: no vertex is at a pole then, where neither
    # the longitude nor the local frame is defined.
    angle = (np.pi - 2 * np.arcsin(phi / np.sqrt(3))) / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    return TriangularMesh(_on_sphere(vertices) @ rotation, np.array(_FACES))


def _divide(mesh: TriangularMesh) -> TriangularMesh:
    count = mesh.vertices.shape[0]
    one, other = mesh.faces, np.roll(mesh.faces, -1, axis=1)
    # An edge belongs to two faces, in opposite directions: equal keys are one midpoint.
    keys = np.minimum(one, other) * count + np.maximum(one, other)
    keys, first, inverse = np.unique(keys.ravel(), return_index=True, return_inverse=True)
    order = first.argsort()  # midpoints are numbered as they are met, face by face
    middles = mesh.vertices[np.stack(np.divmod(keys[order], count), axis=1)].mean(axis=1)
    a, b, c = mesh.faces.T
    ab, bc, ca = (count + order.argsort()[inverse].reshape(-1, 3)).T
    # The face at each corner, then the central one; `_descend` relies on this order.
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    faces = np.stack([np.stack(part, axis=1) for part in parts], axis=1).reshape(-1, 3)
    return TriangularMesh(np.concatenate((mesh.vertices, _on_sphere(middles))), faces)


def _on_sphere(points: Reals) -> Reals:
    scaled: Reals = points / np.linalg.norm(points, axis=-1, keepdims=True)
    return scaled


def _sides(corners: Reals) -> Reals:
    """Return the inward normal of the great circle through each edge of triangles."""
    return np.cross(corners, np.roll(corners, -1, axis=1))


def _descend(points: Reals, roots: Reals, middles: list[Reals]) -> Integers:
    inside = (points @ roots.reshape(-1, 3).T).reshape(len(points), -1, 3).min(axis=-1)
    face: Integers = (inside > -_ON_SIDE).argmax(axis=-1)
    for sides in middles:
        inside = np.einsum("nd,nsd->ns", points, sides[face])
        # A point is in the central face (3), or beyond one of its sides, each of which cuts off a
        # corner: side 0, from ab to bc, that of b, which is face 1.
        beyond = inside.argmin(axis=-1)
        face = 4 * face + np.where(inside.min(axis=-1) < -_ON_SIDE, (beyond + 1) % 3, 3)
    return face


def _hop(
    reached: npt.NDArray[np.uint64], neighbor: Integers, indptr: Integers
) -> npt.NDArray[np.uint64]:
    """Return the union of the neighbors' sets for each node; sets are rows of bits."""
    return np.bitwise_or.reduceat(reached[neighbor], indptr, axis=0)
