# SPDX-License-Identifier: Apache-2.0
"""Triangular meshes of the sphere: an icosahedron whose faces are divided again and again."""

from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from physicsnemo.nn.checks import check_at_least

__all__ = ["TriangularMesh", "face_of_points", "mesh_edges", "mesh_hierarchy"]

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FACES = [
    (0, 1, 2), (0, 6, 1), (8, 0, 2), (8, 4, 0), (3, 8, 2), (3, 2, 7), (7, 2, 1), (0, 4, 6),
    (4, 11, 6), (6, 11, 5), (1, 5, 7), (4, 10, 11), (4, 8, 10), (10, 8, 3), (10, 3, 9),
    (11, 10, 9), (11, 9, 5), (5, 9, 7), (9, 3, 7), (1, 6, 5),
]  # fmt: skip
# How many points are looked for at a time; it bounds the memory.
_CHUNK = 1 << 15
# Points so close to a side are on it, however their coordinates were rounded.
_ON_SIDE = 1e-12


class TriangularMesh(NamedTuple):
    """Points on the unit sphere, joined to triangles.

    Parameters
    ----------
    vertices
        The points, of shape (vertices, 3).
    faces
        The three vertices of each triangle, counterclockwise seen from outside, of shape
        (faces, 3).
    """

    vertices: Reals
    faces: Integers

    @property
    def corners(self) -> Reals:
        """The points of each triangle, of shape (faces, 3, 3)."""
        return self.vertices[self.faces]

    @property
    def edge_lengths(self) -> Reals:
        """The lengths of the straight edges of each triangle, of shape (faces, 3)."""
        lengths: Reals = np.linalg.norm(self.corners - np.roll(self.corners, -1, axis=1), axis=-1)
        return lengths


def mesh_hierarchy(level: int) -> list[TriangularMesh]:
    """Return the icosahedron and its refinements up to a level, the coarsest first.

    Each face is divided into four at the midpoints of its edges. The vertices of a mesh are the
    first ones of the next, and the parts of face ``i`` are its faces ``4 * i`` to ``4 * i + 3``, of
    which the last is the one in the middle.

    Parameters
    ----------
    level
        How often to divide.

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
    """Return the edges of all meshes, each once in both directions, sorted by their ends.

    Returns
    -------
    Source and target of each edge, of shape (2, edges).
    """
    count = meshes[-1].vertices.shape[0]
    faces = np.concatenate([mesh.faces for mesh in meshes])
    one, other = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    keys = np.unique(np.concatenate((one * count + other, other * count + one)))
    return np.stack(np.divmod(keys, count))


def face_of_points(points: Reals, meshes: list[TriangularMesh]) -> Integers:
    """Find the face of the finest mesh that each point is in.

    Faces are divided along great circles, so a point's face is one of the four parts of its face
    in the mesh before.

    Parameters
    ----------
    points
        Points on the unit sphere, of shape (points, 3).
    meshes
        What :func:`mesh_hierarchy` returns.

    Returns
    -------
    A face for each point, of shape (points,). Which one points between faces get depends on the
    mesh alone, so that all machines make the same graph.
    """
    roots = _sides(meshes[0].corners)
    middles = [_sides(mesh.corners[3::4]) for mesh in meshes[1:]]
    chunks = np.split(points, range(_CHUNK, len(points), _CHUNK))
    return np.concatenate([_descend(chunk, roots, middles) for chunk in chunks])


def _icosahedron() -> TriangularMesh:
    phi = (1 + np.sqrt(5)) / 2
    vertices = np.array(
        [
            vertex
            for one, two in product((1.0, -1.0), (phi, -phi))
            for vertex in ((one, two, 0.0), (0.0, one, two), (two, 0.0, one))
        ]
    )
    # Turned so that the centre of a face is at each pole, and no vertex.
    angle = (np.pi - 2 * np.arcsin(phi / np.sqrt(3))) / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    return TriangularMesh(_on_sphere(vertices) @ rotation, np.array(_FACES))


def _divide(mesh: TriangularMesh) -> TriangularMesh:
    count = mesh.vertices.shape[0]
    one, other = mesh.faces, np.roll(mesh.faces, -1, axis=1)
    keys = np.minimum(one, other) * count + np.maximum(one, other)
    keys, first, inverse = np.unique(keys.ravel(), return_index=True, return_inverse=True)
    order = first.argsort()  # midpoints are numbered as they are met, face by face
    middles = mesh.vertices[np.stack(np.divmod(keys[order], count), axis=1)].mean(axis=1)
    a, b, c = mesh.faces.T
    ab, bc, ca = (count + order.argsort()[inverse].reshape(-1, 3)).T
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
        beyond = inside.argmin(axis=-1)  # the side of the middle part that cuts off a corner
        face = 4 * face + np.where(inside.min(axis=-1) < -_ON_SIDE, (beyond + 1) % 3, 3)
    return face
