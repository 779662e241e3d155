# SPDX-License-Identifier: Apache-2.0
"""Fields from one grid on the sphere to another."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from physicsnemo.nn.precision import at_least_float32
from physicsnemo.nn.table import Table
from physicsnemo.utils.weather._interpolation import barycentric, bilinear, unit_vectors
from physicsnemo.utils.weather._places import (
    Degrees,
    Reals,
    check_around_globe,
    grid_axis,
    places,
)

__all__ = ["FacesRegridder", "LatLonRegridder"]


class _Regridder(nn.Module):
    """Values at fixed places, each a weighted mean of those of a few cells."""

    cells: Tensor

    def __init__(
        self,
        cells: NDArray[np.int64],
        weights: Reals,
        source_shape: tuple[int, ...],
        target_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        # Values are the one of greatest weight plus shares of differences from it: so constants,
        # and values at the very place of a cell, come out bit by bit.
        order = (-weights).argsort(axis=0, kind="stable")
        ordered = torch.from_numpy(np.take_along_axis(cells, order, axis=0))
        shares = torch.from_numpy(np.take_along_axis(weights, order, axis=0)[1:])
        self._cells = ordered.reshape(-1, *target_shape)
        self._shares = shares.reshape(-1, *target_shape)
        self.register_buffer("cells", self._cells, persistent=False)
        self.table = Table(partial(torch.Tensor.clone, self._shares))
        self.source_shape, self.target_shape = source_shape, target_shape

    @property
    def weights(self) -> Tensor:
        """The weights of all cells but that of the greatest."""
        return self.table.value

    def forward(self, fields: Tensor) -> Tensor:
        """Interpolate fields.

        What is not finite goes as far as its cell has a weight: a target is not a number if a cell
        that it lies between is not, and at the place of a cell it is what that cell is.

        Parameters
        ----------
        fields
            Values on the source grid, of shape (..., *source_shape).

        Returns
        -------
        Values at the targets, of shape (..., *target_shape), in the type of the fields. Weights
        and sums are in that type too, but in single precision at least.

        Raises
        ------
        TypeError
            If the fields are no tensor of floating-point numbers.
        ValueError
            If they have another shape or device.
        """
        self._check(fields)
        cells = fields.flatten(-len(self.source_shape))
        dtype = at_least_float32(fields.dtype)
        main = cells[..., self.cells[0]].to(dtype)
        # Of infinities there are no differences.
        base = torch.where(main.isfinite(), main, 0)
        values = main
        for cell, weight in zip(self.cells[1:], self._weights_like(main), strict=True):
            share = weight * (cells[..., cell] - base)
            # 0 times what is not finite is not 0.
            values = values + torch.where(weight > 0, share, 0)
        return values.to(fields.dtype)

    def extra_repr(self) -> str:
        """Return the shapes that ``print`` shows."""
        return f"{self.source_shape} -> {self.target_shape}"

    def _weights_like(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64 != self.weights.dtype:  # digits that the table lacks
            return self._shares.to(x.device)
        return self.table.like(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cells = self._cells.to(self.cells.device)  # also from the meta device
        return self

    def _check(self, fields: Tensor) -> None:
        if not isinstance(fields, Tensor):
            raise TypeError(f"expected fields in a tensor, got a {type(fields).__name__}")
        if not fields.is_floating_point():
            raise TypeError(f"expected fields of floating-point numbers, got {fields.dtype}")
        if fields.device != self.cells.device:
            raise ValueError(
                f"the fields are on {fields.device} and the regridder on {self.cells.device}; move "
                f"one of them, as in regridder.to('{fields.device}')"
            )
        if fields.shape[-len(self.source_shape) :] != self.source_shape:
            raise ValueError(
                f"expected fields of shape (..., {', '.join(map(str, self.source_shape))}), the "
                f"grid of this regridder, got {tuple(fields.shape)}"
            )


class LatLonRegridder(_Regridder):
    """Fields on a grid of latitudes and longitudes, interpolated to other places.

    Bilinear in degrees, and periodic in longitude. Between the last row and a pole that has no row
    of its own, the next row is that on the other side of the pole.

    Winds are to be interpolated as vectors in space: their eastward and northward components turn
    by half a turn across a pole.

    Parameters
    ----------
    latitudes, longitudes
        The axes of the grid, in degrees: from pole to pole and around the globe, with or without
        rows at the poles, in either order, from any meridian on; spaced evenly or not.
    target_latitudes, target_longitudes
        Places in degrees, of shapes that broadcast to that of the result, as in
        ``*healpix_points(32)``; for another grid, ``latitudes[:, None], longitudes``.

    Raises
    ------
    ValueError
        If the grid is not around the globe, or a latitude beyond a pole, or shapes do not fit.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.weather import LatLonRegridder, cubed_sphere_points
    >>> latitudes, longitudes = torch.linspace(90, -90, 73), torch.arange(0, 360, 2.5)
    >>> to_faces = LatLonRegridder(latitudes, longitudes, *cubed_sphere_points(16))
    >>> to_faces(torch.randn(8, 4, 73, 144)).shape
    torch.Size([8, 4, 6, 16, 16])
    """

    def __init__(
        self,
        latitudes: Degrees,
        longitudes: Degrees,
        target_latitudes: Degrees,
        target_longitudes: Degrees,
    ) -> None:
        rows, columns = grid_axis(latitudes), grid_axis(longitudes)
        check_around_globe(rows, columns)
        targets = places(target_latitudes, target_longitudes)
        cells, weights = bilinear(rows, columns, *(place.ravel() for place in targets))
        super().__init__(cells, weights, (len(rows), len(columns)), targets[0].shape)


class FacesRegridder(_Regridder):
    """Fields on faces, or at any points around the globe, interpolated to other places.

    Linear in the triangles between the points (their Delaunay triangulation on the sphere), and so
    the same across the edges and corners of faces as within.

    Winds are to be interpolated as vectors in space: their eastward and northward components turn
    by half a turn across a pole.

    Parameters
    ----------
    latitudes, longitudes
        Places of the cells in degrees, in the shape of the fields, as in
        ``*cubed_sphere_points(48)``.
    target_latitudes, target_longitudes
        Places in degrees, of shapes that broadcast to that of the result: for a grid,
        ``latitudes[:, None], longitudes``.

    Raises
    ------
    ValueError
        If the points are not all around the globe, or a latitude beyond a pole, or shapes do not
        fit.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.weather import FacesRegridder, cubed_sphere_points
    >>> latitudes, longitudes = torch.linspace(90, -90, 73), torch.arange(0, 360, 2.5)
    >>> to_grid = FacesRegridder(*cubed_sphere_points(16), latitudes[:, None], longitudes)
    >>> to_grid(torch.randn(8, 4, 6, 16, 16)).shape
    torch.Size([8, 4, 73, 144])
    """

    def __init__(
        self,
        latitudes: Degrees,
        longitudes: Degrees,
        target_latitudes: Degrees,
        target_longitudes: Degrees,
    ) -> None:
        sources = places(latitudes, longitudes)
        targets = places(target_latitudes, target_longitudes)
        cells, weights = barycentric(
            unit_vectors(*sources).reshape(-1, 3), unit_vectors(*targets).reshape(-1, 3)
        )
        super().__init__(cells, weights, sources[0].shape, targets[0].shape)
