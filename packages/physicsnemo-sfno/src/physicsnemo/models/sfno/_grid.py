# SPDX-License-Identifier: Apache-2.0
"""Grids on the sphere, and what their points can tell of a field."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

GRID_TYPES = ("equiangular", "legendre-gauss", "lobatto")


@dataclass(frozen=True)
class SphericalGrid:
    """Circles of latitude from north to south, with equidistant longitudes from 0 eastward.

    Parameters
    ----------
    nlat
        Number of circles of latitude, at least 2.
    nlon
        Number of longitudes.
    grid_type
        Where the circles lie. ``equiangular``: equidistant from pole to pole, both included;
        ``legendre-gauss``: on the nodes of Gauss's quadrature, without the poles; ``lobatto``: on
        those of Lobatto's, with the poles.

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
        """How many degrees, from 0 on, are orthogonal by this grid's quadrature."""
        # The product of two functions of degree l has degree 2l; quadrature is exact up to degree
        # nlat - 1 (Clenshaw-Curtis), 2 nlat - 1 (Gauss), 2 nlat - 3 (Lobatto).
        return {
            "equiangular": (self.nlat + 1) // 2,
            "legendre-gauss": self.nlat,
            "lobatto": self.nlat - 1,
        }[self.grid_type]

    @property
    def orders(self) -> int:
        """How many orders, from 0 on, the longitudes tell apart."""
        # Of order nlon / 2 they would see the cosine alone.
        return (self.nlon + 1) // 2

    def nodes(self) -> Tensor:
        """Return the cosine of the colatitude of each circle, in float64."""
        return _quadrature(self.nlat, self.grid_type)[0].flip(0)

    def weights(self) -> Tensor:
        """Return the area that each circle stands for, in float64, as part of 2."""
        return _quadrature(self.nlat, self.grid_type)[1].flip(0)


@lru_cache
def _quadrature(nlat: int, grid_type: str) -> tuple[Tensor, Tensor]:
    """Return the nodes of a quadrature on [-1, 1] and their weights, on the CPU."""
    from torch_harmonics import quadrature

    rules = {
        "equiangular": quadrature.clenshaw_curtiss_weights,
        "legendre-gauss": quadrature.legendre_gauss_weights,
        "lobatto": quadrature.lobatto_weights,
    }
    with torch.device("cpu"):
        nodes, weights = rules[grid_type](nlat, -1.0, 1.0)
    return nodes, weights
