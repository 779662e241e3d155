# SPDX-License-Identifier: Apache-2.0
"""A U-Net for fields whose opposite sides are joined."""

from typing import Any

from torch import Tensor
from torch.nn import functional

from physicsnemo.models.diffusion import SongUNet
from physicsnemo.models.diffusion.layers import Conv2d


class PeriodicConv2d(Conv2d):
    """A convolution that sees the opposite side beyond a side, where others see zeros.

    It averages and repeats pixels where it changes the resolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to images (batch, in_channels, height, width)."""
        if self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        if self.down:
            x = functional.avg_pool2d(x, kernel_size=2)
        if self.weight is None:
            return x
        x = functional.pad(x, 4 * [self.kernel // 2], mode="circular")
        return functional.conv2d(x, self.weight, self.bias)


class PeriodicUNet(SongUNet):
    """A ``SongUNet`` that knows that opposite sides are joined.

    Convolutions that see zeros beyond the sides tell a network where the sides are, but not that
    the field goes on at the opposite one; samples then have a jump there. Files name this class, so
    import it before you load one.

    Parameters
    ----------
    img_resolution, in_channels, out_channels, **options
        As of ``SongUNet``, apart from ``resample_filter``.

    Raises
    ------
    ValueError
        For a ``resample_filter``.
    """

    def __init__(
        self, img_resolution: int, in_channels: int, out_channels: int, **options: Any
    ) -> None:
        if "resample_filter" in options:
            raise ValueError("expected no resample_filter: pixels are averaged and repeated")
        super().__init__(img_resolution, in_channels, out_channels, **options)
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                layer.__class__ = PeriodicConv2d
