# SPDX-License-Identifier: Apache-2.0
"""Convolution with up- and downsampling."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.diffusion._constants import converted, rounded
from physicsnemo.models.diffusion.layers.linear import typed_like, weight_init


class Conv2d(nn.Module):
    """2-D convolution, with up- or downsampling by 2 if asked for.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    kernel
        Kernel size, an odd number, or 0 for no convolution at all.
    bias
        Whether to add a bias.
    up
        Upsample by 2, before the convolution.
    down
        Downsample by 2, before the convolution.
    resample_filter
        Resampling filter, along each axis; it is normalized. ``[1, 1]`` repeats pixels, or averages
        two by two of them.
    fused_resample
        Fused resampling, without padding in between: downsample after the convolution instead.
    init_mode, init_weight, init_bias
        Initialization, see :class:`Linear`.
    fused_conv_bias
        Accepted for the sake of checkpoints: the bias is always added by the convolution.
    amp_mode
        Leave types to autocast, see :class:`Linear`.

    Raises
    ------
    ValueError
        If both ``up`` and ``down`` are set.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364; Karras et al. 2019, A style-based generator architecture
    for generative adversarial networks, arXiv:1812.04948.
    """

    resample_filter: Tensor  # or None where the resolution stays
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        bias: bool = True,
        up: bool = False,
        down: bool = False,
        resample_filter: Sequence[int] = (1, 1),
        fused_resample: bool = False,
        init_mode: str = "kaiming_normal",
        init_weight: float = 1.0,
        init_bias: float = 0.0,
        fused_conv_bias: bool = False,
        amp_mode: bool = False,
    ) -> None:
        super().__init__()
        if up and down:
            raise ValueError("expected up or down, got both; leave out one")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel, self.up, self.down, self.amp_mode = kernel, up, down, amp_mode
        self.fused_resample = fused_resample and kernel > 0
        fans = in_channels * kernel**2, out_channels * kernel**2

        def parameter(exists: bool, factor: float, *shape: int) -> nn.Parameter | None:
            if not exists:
                return None
            return nn.Parameter(weight_init(shape, init_mode, *fans) * factor)

        kernel_shape = (out_channels, in_channels, kernel, kernel)
        self.weight = parameter(kernel > 0, init_weight, *kernel_shape)
        self.bias = parameter(kernel > 0 and bias, init_bias, out_channels)
        self._averages = list(resample_filter) == [resample_filter[0]] * 2
        self._taps = list(resample_filter)
        kept = rounded(_square(self._taps)) if up or down else None
        self.register_buffer("resample_filter", kept)
        self._resample_padding, self._padding = self._paddings(len(resample_filter))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.resample_filter
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before is not None:
            exact = partial(_square, self._taps)
            self.resample_filter = converted(before, self.resample_filter, exact)
        return self

    def _paddings(self, taps: int) -> tuple[int, int]:
        """Return the padding of the filter and that of the kernel."""
        of_filter, of_kernel = (taps - 1) // 2, self.kernel // 2
        if self.fused_resample and self.up:
            return max(of_filter - of_kernel, 0), max(of_kernel - of_filter, 0)
        if self.fused_resample and self.down:
            return 0, of_kernel + of_filter
        return of_filter, of_kernel

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x
            Images of shape (batch, in_channels, height, width).

        Returns
        -------
        Images of shape (batch, out_channels, height, width), twice or half as high and wide after
        ``up`` or ``down``.
        """
        if self.up:
            x = self._double(x)
        if self.down and not self.fused_resample:
            x = self._halve(x)
        if self.weight is not None:
            weight, bias = typed_like(x, self.amp_mode, self.weight, self.bias)
            x = functional.conv2d(x, weight, bias, padding=self._padding)
        if self.down and self.fused_resample:
            x = self._halve(x)
        return x

    def _double(self, x: Tensor) -> Tensor:
        if self._averages:
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
        # Of the 4 pixels that become of one, 3 are zeros to the filter: the factor keeps the mean.
        kernel, padding = 4 * self._filter_of_each_channel(x), self._resample_padding
        return functional.conv_transpose2d(x, kernel, stride=2, padding=padding, groups=x.shape[1])

    def _halve(self, x: Tensor) -> Tensor:
        if self._averages:
            return functional.avg_pool2d(x, kernel_size=2)
        kernel, padding = self._filter_of_each_channel(x), self._resample_padding
        return functional.conv2d(x, kernel, stride=2, padding=padding, groups=x.shape[1])

    def _filter_of_each_channel(self, x: Tensor) -> Tensor:
        return self.resample_filter.to(x.dtype).expand(x.shape[1], -1, -1, -1)

    def extra_repr(self) -> str:
        """Return what sets this layer apart in printed models."""
        size = f"{self.in_channels}, {self.out_channels}, kernel={self.kernel}"
        return size + (", up=True" if self.up else "") + (", down=True" if self.down else "")


def _square(taps: Sequence[int]) -> Tensor:
    """Return the filter of both axes, of sum 1 and shape (1, 1, taps, taps), in float64."""
    line = torch.tensor(taps, dtype=torch.float64)
    return (torch.outer(line, line) / line.sum().square())[None, None]
