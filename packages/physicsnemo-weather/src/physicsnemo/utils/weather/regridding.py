# SPDX-License-Identifier: Apache-2.0
"""Regridding of fields on the sphere."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from physicsnemo.nn.precision import at_least_float32
from physicsnemo.nn.table import Table
from physicsnemo.utils.weather._coordinates import (
    Degrees,
    Reals,
    check_around_globe,
    coordinates,
    grid_axis,
)
from physicsnemo.utils.weather._interpolation import barycentric, bilinear, unit_vectors

__all__ = ["FacesRegridder", "LatLonRegridder"]


class _Regridder(nn.Module):
    """Sparse interpolation: values at fixed points, each a weighted mean of a few cells."""

    cells: Tensor

    def __init__(
        self,
        cells: NDArray[np.int64],
        weights: Reals,
        source_shape: tuple[int, ...],
        target_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        # A value is that of the cell of greatest weight, plus weighted differences from it: so
        # constants, and values at the centers of cells, are exact to the last bit.
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
        """Weights of all cells but that of greatest weight."""
        return self.table.value

    def forward(self, fields: Tensor) -> Tensor:
        """Interpolate fields.

        Values that are not finite spread to the targets for which their cell has a weight: these
        become NaN, and targets at the center of such a cell take its value.

        Parameters
        ----------
        fields
            Fields on the source grid, of shape (..., *source_shape).

        Returns
        -------
        Fields at the targets, of shape (..., *target_shape), in the dtype of the fields. Sums are
        in single precision at least.

        Raises
        ------
        TypeError
            If the fields are not a floating-point tensor.
        ValueError
            If their shape or device does not fit.
        """
        self._check(fields)
        cells = fields.flatten(-len(self.source_shape))
        dtype = at_least_float32(fields.dtype)
        main = cells[..., self.cells[0]].to(dtype)
        # The difference of two infinities is NaN.
        base = torch.where(main.isfinite(), main, 0)
        values = main
        for cell, weight in zip(self.cells[1:], self._weights_like(main), strict=True):
            share = weight * (cells[..., cell] - base)
            # 0 times infinity or NaN is NaN.
            values = values + torch.where(weight > 0, share, 0)
        return values.to(fields.dtype)

    def extra_repr(self) -> str:
        """Return source and target shape."""
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
    """Bilinear interpolation from a latitude-longitude grid to any points.

    Bilinear in degrees, and periodic in longitude. Beyond the outermost rows, interpolation
    continues across the pole to the row on its other side.

    Interpolate winds as vectors in space: their eastward and northward components reverse across a
    pole.

    Parameters
    ----------
    latitudes, longitudes
        Axes of the global grid, in degrees, with or without rows at the poles, in either order,
        from any meridian on, evenly spaced or not.
    target_latitudes, target_longitudes
        Target points in degrees, of shapes that broadcast to that of the result, as in
        ``*healpix_points(32)``; for another grid, ``latitudes[:, None], longitudes``.

    Raises
    ------
    ValueError
        If the grid is not global, a latitude is out of range, or shapes do not fit.

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
        targets = coordinates(target_latitudes, target_longitudes)
        cells, weights = bilinear(
            rows,
            columns,
            target_latitudes=targets[0].ravel(),
            target_longitudes=targets[1].ravel(),
        )
        super().__init__(
            cells,
            weights,
            source_shape=(len(rows), len(columns)),
            target_shape=targets[0].shape,
        )


class FacesRegridder(_Regridder):
    """Barycentric interpolation from faces, or any points around the globe, to any points.

    Linear in the triangles of the points' Delaunay triangulation on the sphere, and so independent
    of the edges and corners of faces.

    Interpolate winds as vectors in space: their eastward and northward components reverse across a
    pole.

    Parameters
    ----------
    latitudes, longitudes
        Coordinates of the cells in degrees, in the shape of the fields, as in
        ``*cubed_sphere_points(48)``.
    target_latitudes, target_longitudes
        Target points in degrees, of shapes that broadcast to that of the result; for a grid,
        ``latitudes[:, None], longitudes``.

    Raises
    ------
    ValueError
        If the points do not cover the globe, a latitude is out of range, or shapes do not fit.

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
        sources = coordinates(latitudes, longitudes)
        targets = coordinates(target_latitudes, target_longitudes)
        cells, weights = barycentric(
            unit_vectors(*sources).reshape(-1, 3), unit_vectors(*targets).reshape(-1, 3)
        )
        super().__init__(
            cells, weights, source_shape=sources[0].shape, target_shape=targets[0].shape
        )
