# SPDX-License-Identifier: Apache-2.0
"""Pixel shuffle in any number of spatial dimensions."""

import torch
from torch import Tensor, nn

from physicsnemo.nn.tracing import is_tracing


class PixelShuffle(nn.Module):
    """Pixel shuffle: rearrange channels to the points of a grid that is finer by an integer factor.

    Around the point with indices (i, j, ...), the point (r i + a, r j + b, ...) of the finer grid
    gets what channel (..(c r + a) r + b..) holds at (i, j, ...). On grids of two axes that is
    :class:`torch.nn.PixelShuffle`.

    Parameters
    ----------
    upscale_factor
        Upscale factor r, at least 1.

    Raises
    ------
    ValueError
        If ``upscale_factor`` is less.

    References
    ----------
    Shi et al. 2016, arXiv:1609.05158, equation 4.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn import PixelShuffle
    >>> PixelShuffle(2)(torch.zeros(1, 24, 4, 5, 6)).shape
    torch.Size([1, 3, 8, 10, 12])
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        if upscale_factor < 1:
            raise ValueError(f"expected upscale_factor of at least 1, got {upscale_factor}")
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """Refine the grid.

        Parameters
        ----------
        x
            Fields of shape (batch, channels * upscale_factor**d, *grid), on a grid of d axes.

        Returns
        -------
        Fields of shape (batch, channels, *finer), where each axis is ``upscale_factor`` times as
        long.

        Raises
        ------
        ValueError
            If ``upscale_factor**d`` does not divide the number of channels.
        """
        return _pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        """Return the factor, for the module's text."""
        return f"upscale_factor={self.upscale_factor}"


@torch.fx.wrap  # symbolic tracing knows no number of axes
def _pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    dimension = x.ndim - 2
    if not is_tracing():
        _check_channels(x, factor**dimension)
    offsets = [factor] * dimension
    parts = x.unflatten(1, (-1, *offsets))
    # Each axis of the grid takes the offsets along it: batch, channels, n1, r, n2, r, ...
    pairs = [(2 + dimension + axis, 2 + axis) for axis in range(dimension)]
    interleaved = parts.permute(0, 1, *(axis for pair in pairs for axis in pair))
    finer: Tensor = interleaved.reshape(*parts.shape[:2], *(factor * n for n in x.shape[2:]))
    return finer


def _check_channels(x: Tensor, group: int) -> None:
    if x.ndim < 3 or x.shape[1] % group:
        raise ValueError(
            f"expected an input of shape (batch, channels, *grid) with a number of channels that "
            f"{group} divides, got {tuple(x.shape)}"
        )
