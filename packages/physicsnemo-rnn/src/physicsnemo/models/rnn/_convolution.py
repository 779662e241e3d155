# SPDX-License-Identifier: Apache-2.0
"""Convolutions that keep the grid but for their stride, and the transposed ones."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.nn.activations import Activation, as_activation
from physicsnemo.nn.dimensions import convolution, transposed_convolution
from physicsnemo.nn.linear import glorot_
from physicsnemo.nn.numerics import PAPER, has_oddity


class ConvLayer(nn.Module):
    """A convolution that keeps the grid but for its stride, and an activation.

    Zeros around the field make up for what the kernel lacks at the borders, along each axis as many
    before as behind, or one more behind. Of n points, a stride s leaves n / s, rounded up.

    Weights start from Glorot's uniform distribution, biases from zero.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output.
    dimension
        Number of grid axes, 1 to 3.
    kernel_size
        Width of the kernel along all axes, at least ``stride``.
    stride
        Stride along all axes.
    activation_fn
        Name of an activation (:func:`physicsnemo.nn.get_activation`), a module or function, or None
        for none.
    numerics
        ``paper``, or ``reference-1.2`` or ``reference-1.3`` for what those releases of
        nvidia-physicsnemo do: they swap the axes, so that the first one gets the zeros that the
        last one needs. On grids that the stride divides along all axes, that is the same. Later
        releases pad as ``paper`` does.

    Raises
    ------
    ValueError
        If an option has a value that it cannot have.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        kernel_size: int,
        stride: int = 1,
        activation_fn: Activation = None,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        self.swaps_pads = has_oddity(numerics, "swapped_pads")
        self.activation_fn = as_activation(activation_fn)
        both = _on_both_sides(kernel_size, stride)
        self.conv = convolution(dimension)(in_channels, out_channels, kernel_size, stride, both)
        glorot_(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        (kernel_size, *_), (stride, *_) = self.conv.kernel_size, self.conv.stride
        x = _pad(x, kernel_size, stride, swapped=self.swaps_pads)
        return self.activation_fn(self.conv(x))


class TransposeConvLayer(nn.Module):
    """A transposed convolution that multiplies the grid by its stride, and an activation.

    What the kernel adds at the borders is cut off, along each axis as many points before as behind,
    or one more behind. Weights start from Glorot's uniform distribution, biases from zero.

    Parameters
    ----------
    in_channels, out_channels, dimension, kernel_size, stride, activation_fn
        As in :class:`ConvLayer`.
    numerics
        ``paper``, or the name of a release, as in ``reference-2.1``, for what those of
        nvidia-physicsnemo do: they cut off more where the stride s does not divide the n points of
        an axis, as many points as n lacks to a multiple of s.

    Raises
    ------
    ValueError
        If an option has a value that it cannot have.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        kernel_size: int,
        stride: int = 1,
        activation_fn: Activation = None,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        self.cuts_short = has_oddity(numerics, "short_doubling")
        self.activation_fn = as_activation(activation_fn)
        both = _on_both_sides(kernel_size, stride)
        layer = transposed_convolution(dimension)
        self.trans_conv = layer(in_channels, out_channels, kernel_size, stride, both)
        glorot_(self.trans_conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        (kernel_size, *_), (stride, *_) = self.trans_conv.kernel_size, self.trans_conv.stride
        y = self.trans_conv(x)
        return self.activation_fn(_cut(y, x, kernel_size, stride, lacking=self.cuts_short))


def crop(x: Tensor, like: Tensor, dimension: int) -> Tensor:
    """Leave out what lies beyond the grid, the last ``dimension`` axes, of another field."""
    index: list[Any] = [slice(like.shape[axis]) for axis in range(-dimension, 0)]
    return x[..., *index]


def _on_both_sides(kernel_size: int, stride: int) -> int:
    """Return how many points a kernel needs on both sides of any grid; :func:`_rest` may add."""
    if not 0 < stride <= kernel_size:
        raise ValueError(
            f"expected a stride of at least 1 and a kernel_size of at least the stride, got "
            f"kernel_size={kernel_size} and stride={stride}"
        )
    return (kernel_size - stride) // 2


def _rest(lacking: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return what comes to that before and behind an axis that lacks points to whole strides."""
    total = kernel_size - stride + lacking
    before, both = total // 2, _on_both_sides(kernel_size, stride)
    return before - both, total - before - both


@torch.fx.wrap  # symbolic tracing keeps the call, since what it does depends on sizes
def _pad(x: Tensor, kernel_size: int, stride: int, swapped: bool) -> Tensor:
    rests = [_rest(-size % stride, kernel_size, stride) for size in x.shape[2:]]
    # PyTorch counts the axes from the last one.
    amounts = [amount for rest in (rests if swapped else reversed(rests)) for amount in rest]
    return functional.pad(x, amounts) if any(amounts) else x


@torch.fx.wrap
def _cut(y: Tensor, x: Tensor, kernel_size: int, stride: int, lacking: bool) -> Tensor:
    rests = [_rest(-size % stride if lacking else 0, kernel_size, stride) for size in x.shape[2:]]
    amounts = [-amount for rest in reversed(rests) for amount in rest]
    return functional.pad(y, amounts) if any(amounts) else y
