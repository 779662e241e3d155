# SPDX-License-Identifier: Apache-2.0
"""Areas of the cells of grids, as weights whose mean is 1."""

import operator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["cubed_sphere_weights", "latitude_weights"]


def latitude_weights(latitudes: Tensor | ArrayLike) -> Tensor:
    r"""Return the areas of the cells of a grid of latitudes and longitudes.

    A cell reaches half way to the next latitudes, and the outermost ones to the poles:

    .. math:: w_i \propto \sin\theta_i^{upper} - \sin\theta_i^{lower}

    The cosine of the latitude is nearly the same but at a pole, where it is 0, as if the cap around
    it did not exist. Of a grid that ends before the poles by more than a step, the outermost cells
    reach as far outwards as inwards.

    Parameters
    ----------
    latitudes
        Latitudes in degrees, of shape (latitudes,), from pole to pole in either order.

    Returns
    -------
    Weights of shape (latitudes, 1), as fields (..., latitudes, longitudes) need them, with a mean
    of 1; on the device of the latitudes, and in their type, or PyTorch's default for integers.

    Raises
    ------
    ValueError
        If there are less than 2 latitudes, or they neither rise nor fall, or are beyond a pole.

    References
    ----------
    Rasp et al. 2024, WeatherBench 2: a benchmark for the next generation of data-driven global
    weather models, arXiv:2308.15560, which weights cells in the same way.

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
    """Return the areas of the cells of the cubed sphere that ``cubed_sphere_points`` describes.

    The largest is at most 1.42 times the smallest. Cells of the HEALPix grid all have the same
    area and need no weights.

    Parameters
    ----------
    size
        Cells along an edge of a face.

    Returns
    -------
    Weights of shape (6, size, size), with a mean of 1, in PyTorch's default type.

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
    # The area between the centre of a face and a corner of a cell, as seen from the globe's centre.
    solid_angle = torch.atan(x * y / (1 + x**2 + y**2).sqrt())
    areas = solid_angle.diff(dim=0).diff(dim=1)
    return (areas / areas.mean()).to(torch.get_default_dtype()).repeat(6, 1, 1)


def _outer_bound(outermost: Tensor, inner: Tensor) -> Tensor:
    step = outermost - inner
    to_pole = 90 - outermost * step.sign()
    # Some grids leave out a row at a pole; the rest is for round-off.
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
