# SPDX-License-Identifier: Apache-2.0
"""The triangular meshes of the sphere: their counts, their geometry, their symmetries."""

from itertools import pairwise

import numpy as np
import pytest

from physicsnemo.models.graphcast import icosahedral_mesh
from physicsnemo.models.graphcast._geometry import (
    grid_to_mesh,
    mesh_to_grid,
    mesh_to_grid_by_centroid,
)
from physicsnemo.models.graphcast.icosahedral_mesh import (
    face_of_points,
    mesh_edges,
    mesh_hierarchy,
)

MESHES = mesh_hierarchy(3)
LEVELS = range(4)


def points(count: int = 500):
    places = np.random.default_rng(0).normal(size=(count, 3))
    return places / np.linalg.norm(places, axis=1, keepdims=True)


def rotations():
    """Return the 60 rotations of the icosahedron, and each with the inversion."""
    vertices = MESHES[0].vertices
    one, other = mesh_edges(MESHES[:1])

    def frames(a, b):
        side = np.cross(a, b)
        side /= np.linalg.norm(side, axis=-1, keepdims=True)
        return np.stack((a, side, np.cross(a, side)), axis=-1)

    turned = frames(vertices[one], vertices[other])
    proper = turned @ turned[0].T
    return np.concatenate((proper, -proper))


def permutation(rotation, mesh):
    """Return the vertex that each one is moved to."""
    closeness = mesh.vertices @ rotation.T @ mesh.vertices.T
    assert np.allclose(closeness.max(axis=1), 1)
    return closeness.argmax(axis=1)


def as_set(edges):
    return set(zip(*edges.tolist(), strict=True))


@pytest.mark.parametrize("level", LEVELS)
def test_counts(level):
    mesh = MESHES[level]
    edges = mesh_edges([mesh])
    assert mesh.vertices.shape == (10 * 4**level + 2, 3)
    assert mesh.faces.shape == (20 * 4**level, 3)
    assert edges.shape == (2, 2 * 30 * 4**level)
    assert len(mesh.vertices) - edges.shape[1] // 2 + len(mesh.faces) == 2  # Euler
    degrees = np.bincount(edges[1], minlength=len(mesh.vertices))
    assert (degrees == 5).sum() == 12
    assert (degrees == 6).sum() == len(degrees) - 12


@pytest.mark.parametrize("level", LEVELS)
def test_edges_of_all_levels(level):
    edges = mesh_edges(MESHES[: level + 1])
    assert edges.shape == (2, 20 * (4 ** (level + 1) - 1))
    assert as_set(edges) == set().union(*(as_set(mesh_edges([m])) for m in MESHES[: level + 1]))
    assert as_set(edges) == as_set(edges[::-1])
    assert np.array_equal(np.lexsort(edges[::-1]), np.arange(edges.shape[1]))


def test_first_vertices_are_those_of_the_paper():
    expected = [[0.49112, 0.85065, 0.18759], [-0.30353, 0.52573, 0.79465], [0.60706, 0, 0.79465]]
    assert np.allclose(MESHES[0].vertices[:3], expected, atol=1e-5)


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: f"{len(mesh.faces)}faces")
def test_faces_cover_the_sphere_once(mesh):
    a, b, c = mesh.corners.transpose(1, 0, 2)
    assert np.allclose(np.linalg.norm(mesh.vertices, axis=1), 1)
    volume = np.einsum("fd,fd->f", a, np.cross(b, c))
    assert (volume > 0).all()  # counterclockwise seen from outside
    below = 1 + (a * b).sum(1) + (b * c).sum(1) + (c * a).sum(1)
    assert np.isclose(2 * np.arctan2(volume, below).sum(), 4 * np.pi)  # van Oosterom, Strackee 1983


def test_edge_lengths():
    lengths = [mesh.edge_lengths for mesh in MESHES]
    assert np.allclose(lengths[0], 4 / np.sqrt(10 + 2 * np.sqrt(5)))
    for coarse, fine in pairwise(lengths):
        assert 0.45 < fine.min() / coarse.min() < 0.55
        assert 0.45 < fine.max() / coarse.max() < 0.6
        assert fine.max() / fine.min() < 1.25


def test_meshes_are_nested():
    for coarse, fine in pairwise(MESHES):
        assert np.array_equal(fine.vertices[: len(coarse.vertices)], coarse.vertices)
        middles = fine.corners.mean(axis=1)
        parents = face_of_points(middles, [m for m in MESHES if len(m.faces) <= len(coarse.faces)])
        assert np.array_equal(parents, np.arange(len(fine.faces)) // 4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("chunk", [7, 1 << 15])
def test_face_of_a_point_is_around_it(level, chunk, monkeypatch):
    monkeypatch.setattr(icosahedral_mesh, "_CHUNK", chunk)
    meshes, where = MESHES[: level + 1], points()
    corners = meshes[-1].corners[face_of_points(where, meshes)]
    weights = np.linalg.solve(corners.transpose(0, 2, 1), where[..., None])
    assert weights.min() > -1e-12


def test_face_of_vertices_and_midpoints_has_them():
    mesh = MESHES[2]
    faces = mesh.faces[face_of_points(mesh.vertices, MESHES[:3])]
    assert (faces == np.arange(len(faces))[:, None]).any(axis=1).all()
    one, other = mesh_edges([mesh])
    middles = mesh.vertices[one] + mesh.vertices[other]
    faces = mesh.faces[
        face_of_points(middles / np.linalg.norm(middles, axis=1)[:, None], MESHES[:3])
    ]
    assert all({a, b} <= set(face) for a, b, face in zip(one, other, faces, strict=True))


def test_rounding_does_not_decide_between_faces():
    mesh, rng = MESHES[2], np.random.default_rng(0)
    one, other = mesh_edges([mesh])
    between = np.concatenate((mesh.vertices, mesh.vertices[one] + mesh.vertices[other]))
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    faces = face_of_points(between, MESHES[:3])
    noise = rng.normal(scale=1e-15, size=between.shape)
    assert np.array_equal(face_of_points(between + noise, MESHES[:3]), faces)


def test_edges_have_the_symmetries_of_the_icosahedron():
    group, mesh = rotations(), MESHES[2]
    assert group.shape == (120, 3, 3)
    assert len({tuple(np.round(r, 6).ravel() + 0.0) for r in group}) == 120
    edges, where = mesh_edges(MESHES[:3]), points(60)
    known = as_set(edges)
    makers = {
        "near": lambda x: grid_to_mesh(x, mesh),
        "around": lambda x: mesh_to_grid(x, MESHES[:3])[::-1],
        "centroid": lambda x: mesh_to_grid_by_centroid(x, MESHES[:3])[::-1],
    }
    before = {name: make(where) for name, make in makers.items()}
    for rotation in group[::7]:
        moved = permutation(rotation, mesh)
        assert as_set(moved[edges]) == known
        for name, make in makers.items():
            point, vertex = before[name]
            assert as_set(make(where @ rotation.T)) == as_set(np.stack((point, moved[vertex])))


def test_negative_level():
    with pytest.raises(ValueError, match="level of at least 0, got -1"):
        mesh_hierarchy(-1)
