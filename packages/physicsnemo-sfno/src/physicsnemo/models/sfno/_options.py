# SPDX-License-Identifier: Apache-2.0
"""The operator's options: what they may be, and which grids and modes follow from them."""

from collections.abc import Sequence

from physicsnemo.models.sfno._grid import SphericalGrid
from physicsnemo.nn.checks import check_at_least, check_real, is_integer


def check_counts(**values: int) -> None:
    """Raise an error if an option is no whole number from 1 on.

    Raises
    ------
    ValueError
        If one is not.
    """
    for name, value in values.items():
        if not is_integer(value) or value < 1:
            raise ValueError(f"expected {name} to be a whole number of at least 1, got {value!r}")


def check_rates(**values: float) -> None:
    """Raise an error if an option is no probability below 1.

    Raises
    ------
    ValueError
        If one is not.
    """
    check_real(**values)
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"expected {name} to be at least 0 and below 1, got {value}")


def hidden_channels(embed_dim: int, mlp_ratio: float) -> int:
    """Return the hidden channels of pointwise networks.

    Raises
    ------
    ValueError
        If there would be none.
    """
    check_real(mlp_ratio=mlp_ratio)
    if mlp_ratio != mlp_ratio:
        raise ValueError("expected mlp_ratio to be a number, got NaN")
    hidden = int(mlp_ratio * embed_dim)
    if hidden < 1:
        raise ValueError(
            f"mlp_ratio={mlp_ratio} leaves no hidden channel of embed_dim={embed_dim}; use a "
            f"larger one"
        )
    return hidden


def grid_of(name: str, shape: Sequence[int], grid_type: str) -> SphericalGrid:
    """Return the grid of a shape.

    Raises
    ------
    ValueError
        If the shape has not two entries, or there is no such grid.
    """
    if len(shape) != 2:
        raise ValueError(
            f"expected {name} to be the numbers of latitudes and of longitudes, got {list(shape)}"
        )
    nlat, nlon = shape
    check_at_least(0, **{f"{name}[0]": nlat, f"{name}[1]": nlon})
    return SphericalGrid(nlat, nlon, grid_type)


def coarser_grid(grid: SphericalGrid, scale_factor: int, grid_type: str) -> SphericalGrid:
    """Return a grid with that fraction of the points along each axis; poles stay where they are.

    Raises
    ------
    ValueError
        If too few points are left.
    """
    nlat, nlon = (grid.nlat - 1) // scale_factor + 1, grid.nlon // scale_factor
    if nlat < 2 or nlon < 1:
        raise ValueError(
            f"scale_factor={scale_factor} leaves {nlat} × {nlon} of {grid.nlat} × {grid.nlon} "
            f"points; use a smaller one"
        )
    return SphericalGrid(nlat, nlon, grid_type)


def truncation(grids: Sequence[SphericalGrid], max_modes: Sequence[int] | None) -> tuple[int, int]:
    """Return the number of degrees and of orders to keep.

    Unless given, both are the largest number that every grid transforms exactly.

    Raises
    ------
    ValueError
        If not two numbers are given.
    """
    if max_modes is None:
        modes = min(min(grid.degrees, grid.orders) for grid in grids)
        return modes, modes
    if len(max_modes) != 2:
        raise ValueError(
            f"expected max_modes to be the numbers of degrees and of orders, got {list(max_modes)}"
        )
    lmax, mmax = max_modes
    return lmax, mmax
