# SPDX-License-Identifier: Apache-2.0
"""Derivatives of periodic fields by their Fourier series."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from physicsnemo.nn.checks import check_above, check_input
from physicsnemo.nn.precision import widened

__all__ = ["fourier_derivatives"]


def fourier_derivatives(x: Tensor, ell: Sequence[float]) -> tuple[Tensor, Tensor]:
    r"""Return first and second derivatives of periodic fields along each axis of the grid.

    They are exact for fields that the grid resolves. The highest mode of an axis with an even
    number of points counts as a cosine, whose slope is zero at the points.

    Parameters
    ----------
    x
        Fields of shape (batch, channels, \*grid).
    ell
        Length of the period along each axis of the grid.

    Returns
    -------
    First derivatives and second derivatives, each of shape (batch, axes * channels, \*grid): those
    of all channels along the first axis come first. Both have the type of ``x``, and are computed
    in single precision at least.

    Raises
    ------
    ValueError
        If there is not one length for each axis of the grid, or one is not above 0.

    References
    ----------
    Trefethen 2000, Spectral methods in MATLAB, chapter 3.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.derivatives import fourier_derivatives
    >>> x = torch.arange(8) * torch.pi / 4
    >>> first, second = fourier_derivatives(x.sin()[None, None], [2 * torch.pi])
    >>> torch.allclose(first[0, 0], x.cos(), atol=1e-6)
    True
    """
    check_above(0, **{f"ell[{axis}]": length for axis, length in enumerate(ell)})
    grid = {f"n{axis}": None for axis in range(1, len(ell) + 1)}
    check_input(x, {"batch": None, "channels": None} | grid, x, numbers="floating")
    modes = torch.fft.fftn(widened(x), dim=tuple(range(2, x.ndim)))
    first, second = [], []
    for axis, length in enumerate(ell, start=2):
        points = x.shape[axis]
        waves = torch.fft.fftfreq(points, 1 / points, dtype=modes.real.dtype, device=x.device)
        waves = waves.reshape([-1 if other == axis else 1 for other in range(x.ndim)])
        # The mode at the end of an even axis stands for both signs of its wave number.
        both = 2 * waves.abs() == points
        scale = 2 * math.pi / length
        first.append(_field(1j * scale * waves.masked_fill(both, 0.0) * modes, x))
        second.append(_field(-((scale * waves) ** 2) * modes, x))
    return torch.cat(first, dim=1), torch.cat(second, dim=1)


def _field(modes: Tensor, like: Tensor) -> Tensor:
    field: Tensor = torch.fft.ifftn(modes, dim=tuple(range(2, like.ndim))).real
    return field.to(like.dtype)
