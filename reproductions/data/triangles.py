# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes of a channel with a cylinder across it, finer at the cylinder and in its wake.

Nodes on the outlines stay where they are put. Those inside start on a lattice, thinned at random
where triangles shall be larger, and then push each other apart along the edges of their Delaunay
triangulation, as in Persson & Strang 2004, A simple mesh generator in MATLAB,
doi:10.1137/S0036144503429121.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from skfem import MeshTri

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
ROUNDS = 60  # of pushing apart


@dataclass(frozen=True)
class Channel:
    """A channel with a cylinder across it, in m; its lower left corner is the origin.

    Parameters
    ----------
    x, y, radius
        The center of the cylinder and its radius.
    length, height
        Of the channel.
    """

    x: float
    y: float
    radius: float
    length: float = 1.6
    height: float = 0.41

    def beside_cylinder(self, points: Array) -> Array:
        """Return distances of points (2, points) from the cylinder, negative inside it."""
        result: Array = np.hypot(points[0] - self.x, points[1] - self.y) - self.radius
        return result


@dataclass(frozen=True)
class Spacing:
    """Distances between nodes, in m: at the cylinder and its wake, and how they grow from there.

    Parameters
    ----------
    near, far
        The smallest and the largest distance.
    growth
        By how much distances grow in a meter.
    wake
        How long the wake is.
    """

    near: float = 0.015
    far: float = 0.025
    growth: float = 0.12
    wake: float = 0.35


def triangulate(channel: Channel, spacing: Spacing, seed: int) -> MeshTri:
    """Return a mesh of a channel.

    Raises
    ------
    RuntimeError
        If the mesh does not follow the outlines, or a triangle is too flat (quality below 0.4,
        where that of an equilateral one is 1).
    """

    def size(points: Array) -> Array:
        along = points[0] - channel.x
        beyond = along - along.clip(0, spacing.wake)
        away = np.hypot(beyond, points[1] - channel.y) - channel.radius
        grown: Array = (spacing.near + spacing.growth * away).clip(spacing.near, spacing.far)
        return grown

    outlines = _outlines(channel, spacing, size)
    inside = _lattice(channel, spacing, size, np.random.default_rng(seed))
    fixed = outlines.shape[1]
    nodes = np.hstack((outlines, inside))
    for _ in range(ROUNDS):
        nodes[:, fixed:] += _push(nodes, _triangles(nodes, channel), size)[:, fixed:]
        nodes[:, fixed:] = _off_outlines(nodes[:, fixed:], channel, size)
    triangles = _triangles(nodes, channel)
    mesh = MeshTri(nodes, triangles.T.copy())
    rim = np.unique(mesh.facets[:, mesh.boundary_facets()])
    flattest = quality(mesh).min()
    if not np.array_equal(rim, np.arange(fixed)) or flattest < 0.4:
        raise RuntimeError(f"no good mesh of {channel} by seed {seed}: quality {flattest:.2f}")
    return mesh


def quality(mesh: MeshTri) -> Array:
    """Return areas over the sum of squared edges of each triangle, 1 if it is equilateral."""
    corners = mesh.p[:, mesh.t]
    edges = corners - np.roll(corners, 1, axis=1)
    area = abs(edges[0, 0] * edges[1, 1] - edges[1, 0] * edges[0, 1]) / 2
    result: Array = 4 * np.sqrt(3) * area / np.square(edges).sum((0, 1))
    return result


def _outlines(channel: Channel, spacing: Spacing, size: Callable[[Array], Array]) -> Array:
    """Return the nodes on the walls, the inlet, the outlet and the cylinder."""
    corners = [(0, 0), (channel.length, 0), (channel.length, channel.height), (0, channel.height)]
    sides = [
        _side(np.array(start, float), np.array(end, float), size)
        for start, end in zip(corners, [*corners[1:], corners[0]], strict=True)
    ]
    angles = np.linspace(0, 2 * np.pi, round(2 * np.pi * channel.radius / spacing.near) + 1)[1:]
    circle = channel.radius * np.stack((np.cos(angles), np.sin(angles)))
    return np.hstack((*sides, circle + np.array([[channel.x], [channel.y]])))


def _side(start: Array, end: Array, size: Callable[[Array], Array]) -> Array:
    """Return nodes from a corner to before the next one."""
    line = np.linspace(start, end, 1001, axis=1)
    density = 1 / size((line[:, 1:] + line[:, :-1]) / 2)
    count = np.append(0, density.cumsum()) * np.hypot(*(end - start)) / 1000
    places = np.arange(round(count[-1])) * count[-1] / round(count[-1])
    return np.stack([np.interp(places, count, row) for row in line])


def _lattice(
    channel: Channel, spacing: Spacing, size: Callable[[Array], Array], rng: np.random.Generator
) -> Array:
    rows = int(channel.height / spacing.near * 2 / np.sqrt(3)) + 1
    row, column = np.indices((rows, int(channel.length / spacing.near) + 1)).reshape(2, -1)
    points = spacing.near * np.stack((column + row % 2 / 2, np.sqrt(3) / 2 * row))
    sizes = size(points)
    gaps = np.minimum(_beside_walls(points, channel), channel.beside_cylinder(points))
    kept = (gaps > 0.6 * sizes) & (rng.random(len(sizes)) < (spacing.near / sizes) ** 2)
    return points[:, kept]


def _beside_walls(points: Array, channel: Channel) -> Array:
    x, y = points
    result: Array = np.minimum.reduce((x, channel.length - x, y, channel.height - y))
    return result


def _triangles(nodes: Array, channel: Channel) -> Numbers:
    triangles = Delaunay(nodes.T).simplices
    in_channel = channel.beside_cylinder(nodes[:, triangles].mean(-1)) > 0
    result: Numbers = triangles[in_channel].astype(np.int64)
    return result


def _push(nodes: Array, triangles: Numbers, size: Callable[[Array], Array]) -> Array:
    """Return by how much edges that are too short move their nodes."""
    pairs = np.vstack((triangles[:, :2], triangles[:, 1:], triangles[:, ::2]))
    first, second = np.unique(np.sort(pairs), axis=0).T
    way = nodes[:, first] - nodes[:, second]
    lengths = np.hypot(*way)
    wanted = size((nodes[:, first] + nodes[:, second]) / 2)
    # A fifth longer than fits, so that nearly all edges push.
    wanted *= 1.2 * np.sqrt(np.square(lengths).sum() / np.square(wanted).sum())
    force = 0.2 * (wanted / lengths - 1).clip(0) * way
    count = nodes.shape[1]
    return np.stack(
        [np.bincount(first, row, count) - np.bincount(second, row, count) for row in force]
    )


def _off_outlines(points: Array, channel: Channel, size: Callable[[Array], Array]) -> Array:
    """Return points, moved to half an edge from the outlines if they are nearer."""
    gap = size(points) / 2
    upper = np.stack((channel.length - gap, channel.height - gap))
    points = np.minimum(np.maximum(points, gap), upper)
    center = np.array([[channel.x], [channel.y]])
    distance = channel.beside_cylinder(points) + channel.radius
    farther = np.maximum(distance, channel.radius + gap) / distance
    result: Array = center + farther * (points - center)
    return result
