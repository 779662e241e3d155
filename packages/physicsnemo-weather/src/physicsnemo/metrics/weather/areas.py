# SPDX-License-Identifier: Apache-2.0
"""Cell areas of grids, as weights with a mean of 1."""

import operator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["cubed_sphere_weights", "latitude_weights"]


def latitude_weights(latitudes: Tensor | ArrayLike) -> Tensor:
    r"""Compute the cell areas of a latitude-longitude grid.

    Cells extend halfway to the next latitudes, the outermost ones to the poles:

    .. math:: w_i \propto \sin\theta_i^{upper} - \sin\theta_i^{lower}

    The cosine of latitude is nearly the same but at a pole, where it is 0 and ignores the polar
    cap. If a grid ends more than a step before the poles, its outermost cells extend as far outward
    as inward.

    Parameters
    ----------
    latitudes
        Latitudes in degrees, of shape (latitudes,), from pole to pole in either order.

    Returns
    -------
    Weights of shape (latitudes, 1), which broadcast to fields (..., latitudes, longitudes), with a
    mean of 1; on the device and in the dtype of the latitudes, or PyTorch's default for integers.

    Raises
    ------
    ValueError
        If there are fewer than 2 latitudes, or they are not monotonic or out of range.

    References
    ----------
    Rasp et al. 2024, WeatherBench 2: a benchmark for the next generation of data-driven global
    weather models, arXiv:2308.15560.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.weather import latitude_weights
    >>> latitude_weights(torch.tensor([90.0, 45.0, 0.0, -45.0, -90.0])).flatten()
    tensor([0.1903, 1.3530, 1.9134, 1.3530, 0.1903])
    """
    given = latitudes if isinstance(latitudes, Tensor) else torch.from_numpy(np.array(latitudes))
    degrees = given.cpu().double()
    _check_latitudes(degrees)
    between = (degrees[1:] + degrees[:-1]) / 2
    first, last = _outer_bound(*degrees[[0, 1]]), _outer_bound(*degrees[[-1, -2]])
    bounds = torch.cat((first[None], between, last[None]))
    areas = bounds.deg2rad().sin().diff().abs()
    dtype = given.dtype if given.is_floating_point() else torch.get_default_dtype()
    return (areas / areas.mean()).to(given.device, dtype)[:, None]


def cubed_sphere_weights(size: int) -> Tensor:
    """Compute the cell areas of the cubed sphere of ``cubed_sphere_points``.

    The largest is at most 1.42 times the smallest. Cells of the HEALPix grid have equal areas and
    need no weights.

    Parameters
    ----------
    size
        Cells along an edge of a face.

    Returns
    -------
    Weights of shape (6, size, size), with a mean of 1, in PyTorch's default dtype.

    Raises
    ------
    ValueError
        If ``size`` is below 1.

    Examples
    --------
    >>> from physicsnemo.metrics.weather import cubed_sphere_weights
    >>> cubed_sphere_weights(3)[0]
    tensor([[0.9563, 1.0056, 0.9563],
            [1.0056, 1.1523, 1.0056],
            [0.9563, 1.0056, 0.9563]])
    """
    if operator.index(size) < 1:
        raise ValueError(f"expected a size of at least 1, got {size}")
    bounds = torch.linspace(-torch.pi / 4, torch.pi / 4, size + 1, dtype=torch.float64).tan()
    x, y = bounds[:, None], bounds
    # Solid angle of the rectangle between the center of a face and each corner of its cells; its
    # second difference is that of a cell.
    solid_angle = torch.atan(x * y / (1 + x**2 + y**2).sqrt())
    areas = solid_angle.diff(dim=0).diff(dim=1)
    return (areas / areas.mean()).to(torch.get_default_dtype()).repeat(6, 1, 1)


def _outer_bound(outermost: Tensor, inner: Tensor) -> Tensor:
    step = outermost - inner
    to_pole = 90 - outermost * step.sign()
    # Some grids have no row at a pole, where a step is left; the tolerance is for round-off.
    return torch.where(to_pole <= 1.01 * step.abs(), 90 * step.sign(), outermost + step / 2)


def _check_latitudes(degrees: Tensor) -> None:
    if degrees.ndim != 1 or len(degrees) < 2:
        raise ValueError(
            f"expected the latitudes of a grid, of shape (2 or more,), got {tuple(degrees.shape)}"
        )
    steps = degrees.diff()
    if not (degrees.abs() <= 90).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(
            f"expected latitudes in degrees that rise or fall, from -90 to 90, got {degrees}"
        )
