# SPDX-License-Identifier: Apache-2.0
"""Coordinates in degrees: latitudes and longitudes, checked."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

__all__ = ["Degrees", "Reals", "check_around_globe", "coordinates", "grid_axis"]

Degrees = Tensor | ArrayLike
Reals = NDArray[np.float64]


def grid_axis(degrees: Degrees) -> Reals:
    """Return the latitudes or the longitudes of a grid as an array."""
    axis = _numbers(degrees)
    if axis.ndim != 1 or len(axis) < 2:
        raise ValueError(
            f"expected the latitudes and the longitudes of a grid, each of shape (2 or more,), "
            f"got the shape {axis.shape}"
        )
    return axis


def coordinates(latitudes: Degrees, longitudes: Degrees) -> tuple[Reals, Reals]:
    """Return the latitude and the longitude of each point, as arrays of equal shape."""
    given = _numbers(latitudes), _numbers(longitudes)
    try:
        rows, columns = np.broadcast_arrays(*given)
    except ValueError as error:
        raise ValueError(
            f"expected latitudes and longitudes of shapes that broadcast, got {given[0].shape} and "
            f"{given[1].shape}; for a grid, pass latitudes[:, None]"
        ) from error
    if not (np.abs(rows) <= 90).all() or not np.isfinite(columns).all():
        raise ValueError(
            f"expected latitudes from -90 to 90 and finite longitudes, in degrees, got latitudes "
            f"from {rows.min()} to {rows.max()}"
        )
    return rows, columns


def check_around_globe(latitudes: Reals, longitudes: Reals) -> None:
    """Raise a ValueError unless the axes form a global grid."""
    coordinates(latitudes[:, None], longitudes)
    rows, columns = np.sort(latitudes), np.sort(longitudes % 360)
    steps, around = np.diff(rows), np.diff(columns, append=columns[0] + 360)
    if min(steps.min(), around.min()) <= 0:
        raise ValueError(
            "expected each latitude and each longitude of the grid once, got some twice; leave out "
            "the meridian that ends a full turn"
        )
    to_pole = max(90 - rows[-1], rows[0] + 90)
    # Some grids have no row at a pole, where a step is left; tolerances are for round-off, and for
    # unevenly spaced meridians.
    if to_pole > 1.01 * steps.max() or around.max() > 2 * 360 / len(columns):
        raise ValueError(
            f"expected a grid around the whole globe, got latitudes from {rows[0]} to {rows[-1]} "
            f"and a gap of {around.max()} degrees between longitudes"
        )


def _numbers(degrees: Degrees) -> Reals:
    """Return an array in double precision, also of a tensor on another device or in a graph."""
    if not isinstance(degrees, Tensor):
        return np.asarray(degrees, dtype=np.float64)
    if degrees.is_meta:
        raise ValueError(
            "expected places with values, got a tensor on the meta device; build it on another one"
        )
    numbers: Reals = degrees.detach().to("cpu", torch.float64).numpy()
    return numbers
