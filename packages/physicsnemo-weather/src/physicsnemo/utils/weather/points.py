# SPDX-License-Identifier: Apache-2.0
"""Cell centers of grids made of faces."""

import operator

import numpy as np
import torch
from torch import Tensor

__all__ = ["cubed_sphere_points", "healpix_points"]


def cubed_sphere_points(size: int) -> tuple[Tensor, Tensor]:
    """Return the cell centers of an equiangular cubed sphere, in the layout of ``DLWP``.

    Each face spans 90 degrees along either axis, in cells of equal angles (equiangular gnomonic
    projection). Face 0 is centered at longitude 0 on the equator, and faces 1 to 3 follow eastward;
    face 4 is around the south pole, face 5 around the north pole. Rows of faces 0 to 3 run
    northward and columns eastward; those of faces 4 and 5 continue those of face 0, whose first row
    touches the last of face 4, and whose last row the first of face 5.

    Parameters
    ----------
    size
        Cells along an edge of a face.

    Returns
    -------
    Latitudes from -90 to 90 and longitudes from 0 to 360, in degrees, each of shape
    (6, size, size) and in double precision.

    Raises
    ------
    ValueError
        If ``size`` is below 1.

    References
    ----------
    Ronchi et al. 1996, The "cubed sphere", doi:10.1006/jcph.1996.0047.

    Examples
    --------
    >>> from physicsnemo.utils.weather import cubed_sphere_points
    >>> latitudes, longitudes = cubed_sphere_points(2)
    >>> longitudes[0]
    tensor([[337.5000,  22.5000],
            [337.5000,  22.5000]], dtype=torch.float64)
    """
    _check_size(size)
    angles = torch.arange(1 - size, size, 2, dtype=torch.float64) * (torch.pi / 4 / size)
    up, right = torch.meshgrid(angles.tan(), angles.tan(), indexing="ij")
    one = torch.ones_like(up)
    belt = [(one, right, up), (-right, one, up), (-one, -right, up), (right, -one, up)]
    poles = [(up, right, -one), (-up, right, one)]
    x, y, z = (torch.stack(coordinate) for coordinate in zip(*belt, *poles, strict=True))
    latitudes, longitudes = torch.atan2(z, torch.hypot(x, y)), torch.atan2(y, x)
    return latitudes.rad2deg(), longitudes.rad2deg() % 360


def healpix_points(size: int) -> tuple[Tensor, Tensor]:
    """Return the cell centers of the HEALPix grid, in the layout of ``HEALPixUNet``.

    Faces 0 to 3 are around the north pole, 4 to 7 on the equator and 8 to 11 around the south pole,
    each four eastward from longitude 45, 0 and 45. A face stands on a corner: its rows run from its
    northern corner to the southwest, its columns to the southeast. All cells have the same area.

    Parameters
    ----------
    size
        Cells along an edge of a face, a power of 2.

    Returns
    -------
    Latitudes from -90 to 90 and longitudes from 0 to 360, in degrees, each of shape
    (12, size, size) and in double precision.

    Raises
    ------
    ValueError
        If ``size`` is not a power of 2.
    ImportError
        If the package ``healpix`` is missing.

    References
    ----------
    Górski et al. 2005, HEALPix: a framework for high-resolution discretization and fast analysis
    of data distributed on the sphere, doi:10.1086/427976.

    Examples
    --------
    >>> from physicsnemo.utils.weather import healpix_points
    >>> latitudes, longitudes = healpix_points(1)
    >>> longitudes.flatten().tolist()
    [45.0, 135.0, 225.0, 315.0, 0.0, 90.0, 180.0, 270.0, 45.0, 135.0, 225.0, 315.0]
    """
    _check_size(size)
    if size & (size - 1):
        raise ValueError(f"expected a power of 2 as the size of HEALPix faces, got {size}")
    try:
        import healpix
    except ImportError as error:
        raise ImportError(
            "the places of HEALPix cells need the package healpix: run "
            "pip install 'physicsnemo-weather[regrid]'"
        ) from error
    # Nested indices interleave the bits of two coordinates, both counted from the southern corner.
    spread = np.array([int(f"{number:b}", 4) for number in reversed(range(size))])
    first = np.arange(12)[:, None, None] * size**2
    longitudes, latitudes = healpix.pix2ang(
        size, first + spread[:, None] + 2 * spread, nest=True, lonlat=True
    )
    return torch.from_numpy(latitudes), torch.from_numpy(longitudes % 360)


def _check_size(size: int) -> None:
    if operator.index(size) < 1:
        raise ValueError(f"expected a size of at least 1, got {size}")
