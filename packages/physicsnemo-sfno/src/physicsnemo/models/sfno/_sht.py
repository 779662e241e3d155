# SPDX-License-Identifier: Apache-2.0
"""Real spherical harmonic transform (SHT) and its inverse, and the grids that they work on."""

import math
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from physicsnemo.nn.precision import no_autocast
from physicsnemo.nn.table import Table

GRID_TYPES = ("equiangular", "legendre-gauss", "lobatto")


@dataclass(frozen=True)
class SphericalGrid:
    """Grid of latitudes from north to south and equidistant longitudes from 0 eastward.

    Parameters
    ----------
    nlat
        Number of latitudes, at least 2.
    nlon
        Number of longitudes.
    grid_type
        Quadrature that the latitudes belong to. ``equiangular``: Clenshaw-Curtis, equidistant from
        pole to pole, both included; ``legendre-gauss``: Gauss-Legendre, without the poles;
        ``lobatto``: Gauss-Lobatto, with the poles.

    Raises
    ------
    ValueError
        If a number is too small or there is no such type.

    Examples
    --------
    >>> from physicsnemo.models.sfno import SphericalGrid
    >>> grid = SphericalGrid(181, 360, "equiangular")
    >>> grid.degrees, grid.orders
    (91, 180)
    >>> grid.latitudes()[:3].tolist(), grid.longitudes()[:3].tolist()
    ([90.0, 89.0, 88.0], [0.0, 1.0, 2.0])
    """

    nlat: int
    nlon: int
    grid_type: str = "equiangular"

    def __post_init__(self) -> None:
        if self.grid_type not in GRID_TYPES:
            raise ValueError(
                f"expected a grid type among {', '.join(GRID_TYPES)}, got {self.grid_type!r}"
            )
        if self.nlat < 2 or self.nlon < 1:
            raise ValueError(
                f"expected a grid of at least 2 latitudes and 1 longitude, "
                f"got {self.nlat} × {self.nlon}"
            )

    @property
    def degrees(self) -> int:
        """Number of degrees, from 0 on, that are orthogonal by this grid's quadrature."""
        # The product of two functions of degree l has degree 2l; quadrature is exact up to degree
        # nlat - 1 (Clenshaw-Curtis), 2 nlat - 1 (Gauss), 2 nlat - 3 (Lobatto).
        return {
            "equiangular": (self.nlat + 1) // 2,
            "legendre-gauss": self.nlat,
            "lobatto": self.nlat - 1,
        }[self.grid_type]

    @property
    def orders(self) -> int:
        """Number of orders, from 0 on, that the longitudes resolve."""
        # Of order nlon / 2 they would see the cosine alone.
        return (self.nlon + 1) // 2

    def latitudes(self) -> Tensor:
        """Return the latitudes of the rows in degrees, from north to south, in float64."""
        if self.grid_type == "equiangular":
            return torch.linspace(90, -90, self.nlat, dtype=torch.float64, device="cpu")
        return self.nodes().clamp(-1, 1).asin().rad2deg()

    def longitudes(self) -> Tensor:
        """Return the longitudes of the columns in degrees, from 0 eastward, in float64."""
        return torch.arange(self.nlon, dtype=torch.float64, device="cpu") * (360 / self.nlon)

    def nodes(self) -> Tensor:
        """Return the quadrature nodes: cosines of the colatitudes, in float64."""
        return _quadrature(self.nlat, self.grid_type)[0].flip(0)

    def weights(self) -> Tensor:
        """Return the quadrature weights of the latitudes, in float64; they add up to 2."""
        return _quadrature(self.nlat, self.grid_type)[1].flip(0)


class RealSHT(nn.Module):
    r"""Real spherical harmonic transform: from fields to their coefficients.

    With orthonormal harmonics :math:`Y_l^m`, Condon-Shortley phase included, the coefficients of a
    field :math:`f` are :math:`f_l^m = \int f \, \overline{Y_l^m}`, by the grid's quadrature. They
    are exact if the field holds no degrees and orders but those asked for, and these are no more
    than :attr:`SphericalGrid.degrees` and :attr:`SphericalGrid.orders`. Under autocast and for
    inputs of half precision the transform computes in float32, and returns it.

    Parameters
    ----------
    grid
        Grid of the fields.
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
    >>> from physicsnemo.models.sfno import RealSHT, SphericalGrid
    >>> RealSHT(SphericalGrid(17, 32), lmax=9, mmax=9)(torch.ones(17, 32)).shape
    torch.Size([9, 9, 2])
    """

    def __init__(self, grid: SphericalGrid, lmax: int, mmax: int) -> None:
        super().__init__()
        check_truncation(grid, lmax, mmax)
        self.grid, self.lmax, self.mmax = grid, lmax, mmax
        self.fourier = Table(partial(_rdft, grid.nlon, mmax))
        self.legendre = Table(partial(_legendre_transform, grid, lmax, mmax))

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
            # A DFT along the circles of latitude, as a matrix product: truncated to mmax orders, it
            # is as fast as an FFT, and needs no complex numbers. Then, for each order, quadrature
            # with the Legendre functions.
            waves = x.to(fourier.dtype) @ fourier
            return by_order(legendre, waves.unflatten(-1, (2, self.mmax)).mT)

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return f"{self.grid}, lmax={self.lmax}, mmax={self.mmax}"


class InverseRealSHT(nn.Module):
    r"""Inverse real spherical harmonic transform: from coefficients to fields.

    This is the inverse of :class:`RealSHT`,
    :math:`f = \sum_{l,m} f_l^m Y_l^m` with real :math:`f`, at the points of any grid. Under
    autocast and for inputs of half precision it computes in float32, and returns it.

    Parameters
    ----------
    grid
        Grid of the fields.
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
        self.fourier = Table(partial(_irdft, grid.nlon, mmax))
        self.legendre = Table(partial(_legendre_functions, grid, lmax, mmax))

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
            waves = by_order(legendre, spectrum.to(legendre.dtype))
            return waves.mT.flatten(-2) @ fourier

    def extra_repr(self) -> str:
        """Return the sizes, as they appear in the printed model."""
        return f"{self.grid}, lmax={self.lmax}, mmax={self.mmax}"


def check_truncation(grid: SphericalGrid, lmax: int, mmax: int) -> None:
    """Raise a ValueError if a grid does not resolve so many degrees or orders.

    An equiangular grid resolves as many degrees as it has latitudes, though its quadrature is
    exact for half of them only. No order exceeds the degree.
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


def by_order(matrices: Tensor, x: Tensor) -> Tensor:
    """Multiply each order by its matrix: (order, k, l) times (..., l, order, 2) along l."""
    batch, (size, orders, parts) = x.shape[:-3], x.shape[-3:]
    # Laid out for one batched product; left to torch.einsum, each order is copied on its own.
    columns = x.reshape(-1, size, orders, parts).permute(2, 1, 0, 3).flatten(start_dim=2)
    products = matrices @ columns.contiguous()
    rows: Tensor = products.unflatten(-1, (-1, parts)).permute(2, 1, 0, 3)
    return rows.reshape(*batch, rows.shape[1], orders, parts)


def _rdft(nlon: int, mmax: int) -> Tensor:
    """Return the matrix of the real DFT as an integral, (nlon, 2 mmax), real parts first."""
    angle = _angles(nlon, mmax)
    return torch.cat((angle.cos(), -angle.sin()), dim=1) * (2 * math.pi / nlon)


def _irdft(nlon: int, mmax: int) -> Tensor:
    """Return the matrix of the inverse real DFT, (2 mmax, nlon), real parts first."""
    angle = _angles(nlon, mmax).T
    share = torch.full((mmax, 1), 2.0, dtype=torch.float64, device="cpu")
    share[0] = 1  # any other order stands for the negative one too
    return torch.cat((share * angle.cos(), -share * angle.sin()))


def _angles(nlon: int, mmax: int) -> Tensor:
    longitude, order = (torch.arange(n, dtype=torch.float64, device="cpu") for n in (nlon, mmax))
    # Of the whole number of turns, which costs digits, only the rest matters.
    return torch.outer(longitude, order).remainder(nlon) * (2 * math.pi / nlon)


def _legendre_transform(grid: SphericalGrid, lmax: int, mmax: int) -> Tensor:
    """Return the Legendre functions times the quadrature's weights, (mmax, lmax, nlat)."""
    return _legendre_functions(grid, lmax, mmax).mT * grid.weights()


def _legendre_functions(grid: SphericalGrid, lmax: int, mmax: int) -> Tensor:
    """Return the normalized associated Legendre functions, of shape (mmax, nlat, lmax)."""
    from torch_harmonics.legendre import legpoly

    with torch.device("cpu"):
        table: Tensor = legpoly(mmax, lmax, grid.nodes(), norm="ortho", csphase=True)
    return table.mT


def _quadrature(nlat: int, grid_type: str) -> tuple[Tensor, Tensor]:
    """Return the nodes of a quadrature on [-1, 1] and their weights, on the CPU."""
    # What a mode makes, as that of fake tensors, is of no use outside.
    is_ordinary = _get_current_dispatch_mode() is None
    return (_kept_quadrature if is_ordinary else _made_quadrature)(nlat, grid_type)


def _made_quadrature(nlat: int, grid_type: str) -> tuple[Tensor, Tensor]:
    from torch_harmonics import quadrature

    rules = {
        "equiangular": quadrature.clenshaw_curtiss_weights,
        "legendre-gauss": quadrature.legendre_gauss_weights,
        "lobatto": quadrature.lobatto_weights,
    }
    with torch.device("cpu"):
        nodes, weights = rules[grid_type](nlat, -1.0, 1.0)
    return nodes, weights


_kept_quadrature = lru_cache(_made_quadrature)
