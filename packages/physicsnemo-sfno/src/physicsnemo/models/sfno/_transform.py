# SPDX-License-Identifier: Apache-2.0
"""Spherical harmonic transforms as products with constant real matrices."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from physicsnemo.models.sfno._grid import SphericalGrid
from physicsnemo.nn.precision import no_autocast
from physicsnemo.nn.table import Table


class SphericalAnalysis(nn.Module):
    r"""The coefficients of fields in spherical harmonics.

    With orthonormal harmonics :math:`Y_l^m`, Condon-Shortley phase included, the coefficients of a
    field :math:`f` are :math:`f_l^m = \int f \, \overline{Y_l^m}`, by the grid's quadrature. They
    are exact if the field holds no degrees and orders but those asked for, and these are no more
    than :attr:`SphericalGrid.degrees` and :attr:`SphericalGrid.orders`. Under autocast and for
    inputs of half precision the transform computes in float32, and returns it.

    Parameters
    ----------
    grid
        Where the fields are given.
    lmax
        Number of degrees, 0 to lmax - 1.
    mmax
        Number of orders, 0 to mmax - 1. A real field has the conjugate coefficients at the
        negative ones, up to a sign.

    Raises
    ------
    ValueError
        If the grid does not resolve so many degrees or orders.

    References
    ----------
    Driscoll and Healy 1994, Computing Fourier transforms and convolutions on the 2-sphere;
    Schaeffer 2013, arXiv:1202.6522.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.sfno import SphericalAnalysis, SphericalGrid
    >>> SphericalAnalysis(SphericalGrid(17, 32), lmax=9, mmax=9)(torch.ones(17, 32)).shape
    torch.Size([9, 9, 2])
    """

    def __init__(self, grid: SphericalGrid, lmax: int, mmax: int) -> None:
        super().__init__()
        check_truncation(grid, lmax, mmax)
        self.grid, self.lmax, self.mmax = grid, lmax, mmax
        self.fourier = Table(partial(_fourier_analysis, grid.nlon, mmax))
        self.legendre = Table(partial(_legendre_analysis, grid, lmax, mmax))

    def forward(self, x: Tensor) -> Tensor:
        """Transform fields.

        Parameters
        ----------
        x
            Fields of shape (..., nlat, nlon).

        Returns
        -------
        Coefficients of shape (..., lmax, mmax, 2) with real and imaginary parts last; those of
        an order above the degree are zero.

        Raises
        ------
        TypeError
            If the fields are of float64 and the layer is not.
        """
        fourier, legendre = self.fourier.like(x), self.legendre.like(x)
        with no_autocast(x):
            # A truncated Fourier transform is as fast as a product as by FFT, and stays real.
            waves = x.to(fourier.dtype) @ fourier
            by_order = waves.unflatten(-1, (2, self.mmax)).mT
            return _by_order(legendre, by_order)

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return f"{self.grid}, lmax={self.lmax}, mmax={self.mmax}"


class SphericalSynthesis(nn.Module):
    r"""The fields that have given coefficients in spherical harmonics.

    This is the inverse of :class:`SphericalAnalysis`,
    :math:`f = \sum_{l,m} f_l^m Y_l^m` with real :math:`f`, at the points of any grid. Under
    autocast and for inputs of half precision it computes in float32, and returns it.

    Parameters
    ----------
    grid
        Where to evaluate the fields.
    lmax
        Number of degrees, 0 to lmax - 1.
    mmax
        Number of orders, 0 to mmax - 1.

    Raises
    ------
    ValueError
        If the grid does not resolve so many degrees or orders.
    """

    def __init__(self, grid: SphericalGrid, lmax: int, mmax: int) -> None:
        super().__init__()
        check_truncation(grid, lmax, mmax)
        self.grid, self.lmax, self.mmax = grid, lmax, mmax
        self.fourier = Table(partial(_fourier_synthesis, grid.nlon, mmax))
        self.legendre = Table(partial(_legendre_synthesis, grid, lmax, mmax))

    def forward(self, spectrum: Tensor) -> Tensor:
        """Transform coefficients.

        Parameters
        ----------
        spectrum
            Coefficients of shape (..., lmax, mmax, 2) with real and imaginary parts last; the
            imaginary parts of order 0 and all of an order above the degree are of no effect.

        Returns
        -------
        Fields of shape (..., nlat, nlon).

        Raises
        ------
        TypeError
            If the coefficients are of float64 and the layer is not.
        """
        fourier, legendre = self.fourier.like(spectrum), self.legendre.like(spectrum)
        with no_autocast(spectrum):
            waves = _by_order(legendre, spectrum.to(legendre.dtype))
            return waves.mT.flatten(-2) @ fourier

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return f"{self.grid}, lmax={self.lmax}, mmax={self.mmax}"


def transforms(
    kind: Callable[[SphericalGrid, int, int], nn.Module],
    grids: Sequence[SphericalGrid],
    lmax: int,
    mmax: int,
) -> nn.ModuleList:
    """Return a transform for each grid; equal grids share one."""
    of_grid = {grid: kind(grid, lmax, mmax) for grid in dict.fromkeys(grids)}
    return nn.ModuleList(of_grid[grid] for grid in grids)


def check_truncation(grid: SphericalGrid, lmax: int, mmax: int) -> None:
    """Raise an error if a grid does not resolve so many degrees or orders.

    An equiangular grid resolves as many degrees as it has latitudes, though its quadrature is
    exact for half of them only. No order exceeds the degree.

    Raises
    ------
    ValueError
        If it does not.
    """
    resolved = grid.nlat if grid.grid_type == "equiangular" else grid.degrees
    orders = min(grid.orders, lmax)
    for name, asked, available in (("lmax", lmax, resolved), ("mmax", mmax, orders)):
        if not 1 <= asked <= available:
            raise ValueError(
                f"expected {name} from 1 to {available} on the {grid.grid_type} grid of "
                f"{grid.nlat} × {grid.nlon} points, got {asked}; ask for fewer modes, or use a "
                f"finer grid"
            )


def _by_order(matrices: Tensor, x: Tensor) -> Tensor:
    """Multiply each order by its matrix: (order, k, l) times (..., l, order, 2) along the l."""
    batch, (size, orders, parts) = x.shape[:-3], x.shape[-3:]
    # Laid out for one batched product; left to torch.einsum, each order is copied on its own.
    columns = x.reshape(-1, size, orders, parts).permute(2, 1, 0, 3).flatten(start_dim=2)
    products = matrices @ columns.contiguous()
    rows: Tensor = products.unflatten(-1, (-1, parts)).permute(2, 1, 0, 3)
    return rows.reshape(*batch, rows.shape[1], orders, parts)


def _fourier_analysis(nlon: int, mmax: int) -> Tensor:
    """Return the matrix of the Fourier integrals, of shape (nlon, 2 mmax), real parts first."""
    angle = _angles(nlon, mmax)
    return torch.cat((angle.cos(), -angle.sin()), dim=1) * (2 * math.pi / nlon)


def _fourier_synthesis(nlon: int, mmax: int) -> Tensor:
    """Return the matrix of the Fourier sums, of shape (2 mmax, nlon), real parts first."""
    angle = _angles(nlon, mmax).T
    share = torch.full((mmax, 1), 2.0, dtype=torch.float64, device="cpu")
    share[0] = 1  # of any other order, there is the negative one too
    return torch.cat((share * angle.cos(), -share * angle.sin()))


def _angles(nlon: int, mmax: int) -> Tensor:
    longitude, order = (torch.arange(n, dtype=torch.float64, device="cpu") for n in (nlon, mmax))
    # Of the whole number of turns, which costs digits, only the rest matters.
    return torch.outer(longitude, order).remainder(nlon) * (2 * math.pi / nlon)


def _legendre_analysis(grid: SphericalGrid, lmax: int, mmax: int) -> Tensor:
    """Return the Legendre functions times the quadrature's weights, (mmax, lmax, nlat)."""
    return _legendre_synthesis(grid, lmax, mmax).mT * grid.weights()


def _legendre_synthesis(grid: SphericalGrid, lmax: int, mmax: int) -> Tensor:
    """Return the normalized associated Legendre functions, of shape (mmax, nlat, lmax)."""
    from torch_harmonics.legendre import legpoly

    with torch.device("cpu"):
        table: Tensor = legpoly(mmax, lmax, grid.nodes(), norm="ortho", csphase=True)
    return table.mT
