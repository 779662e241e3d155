# SPDX-License-Identifier: Apache-2.0
"""Features of edges and nodes: where they are on the sphere."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from physicsnemo.models.graphcast.icosahedral_mesh import Integers, Reals

# How many edges are worked on at a time; it bounds the memory.
_CHUNK = 1 << 17


class Places(NamedTuple):
    """Points on the sphere: latitude and longitude in radians, and positions of shape (points, 3).

    A pole has any longitude; the one given says which way is east.
    """

    lat: Reals
    lon: Reals
    xyz: Reals

    @classmethod
    def of_grid(cls, height: int, width: int, precision: npt.DTypeLike = np.float64) -> Self:
        """Return a grid from the south pole to the north pole, row by row.

        Longitudes begin one step east of the date line and end at it. Angles are rounded to the
        precision.
        """
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


def edge_features(edges: Integers, sources: Places, targets: Places) -> Reals:
    """Return where the source of each edge lies, seen from its target, and how far away.

    Returns
    -------
    The displacement upwards, eastwards and northwards at the target and its length, in units of
    the longest one, of shape (edges, 4).
    """
    frames = _frames(targets)
    features = np.empty((edges.shape[1], 4))
    for start in range(0, len(features), _CHUNK):
        source, target = edges[:, start : start + _CHUNK]
        away = sources.xyz[source] - targets.xyz[target]
        part = features[start : start + _CHUNK]
        part[:, :3] = np.einsum("ekd,ed->ek", frames[target], away)
        part[:, 3] = np.linalg.norm(away, axis=1)
    features /= features[:, 3].max()
    return features


def node_features(nodes: Places) -> Reals:
    """Return the sine of the latitude, and sine and cosine of the longitude, of shape (nodes, 3).

    The supplement of Lam et al. 2023 names "the cosine of the latitude", which is the same on both
    hemispheres, so that a vertex and its mirror image at the equator could not be told apart. The
    authors' code has the cosine of the angle from the north pole, which is the sine of the
    latitude, and so has this.
    """
    return np.stack((np.sin(nodes.lat), np.sin(nodes.lon), np.cos(nodes.lon)), axis=1)


def node_features_of_degrees(nodes: Places) -> Reals:
    """Return cosine of latitude, sine and cosine of longitude of degrees taken for radians."""
    lat, lon = np.rad2deg(nodes.lat), np.rad2deg(nodes.lon)
    return np.stack((np.cos(lat), np.sin(lon), np.cos(lon)), axis=1)


def _frames(places: Places) -> Reals:
    """Return the directions up, east and north at each point, of shape (points, 3, 3)."""
    lat, lon = places.lat, places.lon
    zero = np.zeros_like(lon)
    east = np.stack((-np.sin(lon), np.cos(lon), zero), axis=-1)
    north = np.stack((-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)), -1)
    return np.stack((places.xyz, east, north), axis=1)
