# SPDX-License-Identifier: Apache-2.0
"""Convolutional GRU cell, and the layers that bring fields to its grid and back."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.nn.activations import Activation, as_activation
from physicsnemo.nn.dimensions import convolution, transposed_convolution
from physicsnemo.nn.linear import glorot_
from physicsnemo.nn.numerics import PAPER, has_oddity

__all__ = ["ConvGRULayer", "ConvLayer", "ConvResidualBlock", "TransposeConvLayer"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class ConvGRULayer(nn.Module):
    r"""Convolutional gated recurrent unit (ConvGRU).

    From an input :math:`x` and a state :math:`h`, fields on one grid, it makes the next state

    .. math::
        h' = (1 - z)\, n + z h,
        \quad (r, z) = \sigma(W_1 * (x, h) + b_1),
        \quad n = \varphi(W_2 * (x, r h) + b_2).

    Parameters
    ----------
    in_channels
        Input channels.
    hidden_channels
        Channels of the hidden state.
    dimension
        Number of spatial dimensions, 1 to 3.
    activation_fn
        Activation :math:`\varphi`: a name (:func:`physicsnemo.nn.get_activation`), a module or
        function, or None for none.

    References
    ----------
    Cho et al. 2014, arXiv:1406.1078; Ballas et al. 2016, arXiv:1511.06432.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.rnn.layers import ConvGRULayer
    >>> cell = ConvGRULayer(in_channels=2, hidden_channels=4, dimension=2)
    >>> state = torch.zeros(1, 4, 9, 7)
    >>> for x in torch.randn(3, 1, 2, 9, 7):
    ...     state = cell(x, state)
    >>> state.shape
    torch.Size([1, 4, 9, 7])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        dimension: int,
        activation_fn: Activation = "relu",
    ) -> None:
        super().__init__()
        channels = in_channels + hidden_channels
        self.dimension = dimension
        self.conv_1 = ConvLayer(channels, 2 * hidden_channels, dimension, kernel_size=3)
        self.conv_2 = ConvLayer(
            channels, hidden_channels, dimension, kernel_size=3, activation_fn=activation_fn
        )

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the next state.

        Parameters
        ----------
        x
            Input of shape (batch, in_channels, *grid).
        hidden
            State of shape (batch, hidden_channels, *grid).
        """
        return self._next(x, hidden, self.conv_1(torch.cat((x, hidden), dim=1)))

    def advance(self, hidden: Tensor) -> Tensor:
        """Return the next state where the input is the state itself, ``cell(hidden, hidden)``.

        It takes two thirds of the products: weights of the gates that meet the same number are
        added before.
        """
        of_input, of_state = self.conv_1.conv.weight.chunk(2, dim=1)
        gates = self._convolve(hidden, of_input + of_state, self.conv_1.conv.bias)
        return self._next(hidden, hidden, gates)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _CONVOLUTIONS[self.dimension](x, weight, bias, padding=1)

    def _next(self, x: Tensor, hidden: Tensor, gates: Tensor) -> Tensor:
        reset, keep = gates.sigmoid().chunk(2, dim=1)
        candidate = self.conv_2(torch.cat((x, reset * hidden), dim=1))
        mixed: Tensor = (1 - keep) * candidate + keep * hidden
        return mixed


class ConvResidualBlock(nn.Module):
    """Gated residual block: two convolutions, the second a gated linear unit, beside a skip.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Channels of the output, at least as many. The skip connection has zeros in the first ones
        where they are more.
    dimension
        Number of spatial dimensions, 1 to 3.
    stride
        Stride: 1, or 2 to halve the grid, with average pooling in the skip connection.
    begin_activation_fn
        Pre-activation: apply the activation before the first convolution too.
    activation_fn
        Activation: a name (:func:`physicsnemo.nn.get_activation`), a module or function, or None.
    numerics
        As in :class:`ConvLayer`.

    Raises
    ------
    ValueError
        If there are fewer channels out than in, or the stride is another one.

    References
    ----------
    Salimans et al. 2017, PixelCNN++, arXiv:1701.05517 (gated residual blocks).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        stride: int = 1,
        begin_activation_fn: bool = True,
        activation_fn: Activation = "relu",
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"expected stride 1 or 2, got {stride}")
        if out_channels < in_channels:
            raise ValueError(
                f"expected at least as many channels out as in, got {in_channels} in and "
                f"{out_channels} out; in a model, raise nr_latent_channels"
            )
        self.dimension = dimension
        self.stride = stride
        self.added_channels = out_channels - in_channels
        self.begin_activation_fn = begin_activation_fn
        self.activation_fn = as_activation(activation_fn)
        self.conv_1 = ConvLayer(
            in_channels,
            out_channels,
            dimension,
            kernel_size=2 + stride,
            stride=stride,
            numerics=numerics,
        )
        self.conv_2 = ConvLayer(out_channels, 2 * out_channels, dimension, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid).

        With stride 2, the grid that comes out has half as many points along each axis, rounded up.
        """
        y = self.activation_fn(x) if self.begin_activation_fn else x
        y = functional.glu(self.conv_2(self.activation_fn(self.conv_1(y))), dim=1)
        if self.stride == 2:
            x = crop(_MEANS[self.dimension](x, 2, ceil_mode=True), y, self.dimension)
        if self.added_channels:
            x = functional.pad(x, [0, 0] * self.dimension + [self.added_channels, 0])
        return x + y


class ConvLayer(nn.Module):
    """Same-size convolution with an activation: a stride s leaves n / s of n points, rounded up.

    It pads with zeros, along each axis as many before as behind, or one more behind.

    Weights start from Glorot's uniform distribution, biases from zero.

    Parameters
    ----------
    in_channels, out_channels
        Input and output channels.
    dimension
        Number of spatial dimensions, 1 to 3.
    kernel_size
        Kernel size along all axes, at least ``stride``.
    stride
        Stride along all axes.
    activation_fn
        Activation: a name (:func:`physicsnemo.nn.get_activation`), a module or function, or None.
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
        self.conv = convolution(dimension)(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=_on_both_sides(kernel_size, stride),
        )
        glorot_(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        return self.activation_fn(self.conv(self._padded(x)))

    def _padded(self, x: Tensor) -> Tensor:
        (kernel_size, *_), (stride, *_) = self.conv.kernel_size, self.conv.stride
        return _pad(x, kernel_size=kernel_size, stride=stride, swapped=self.swaps_pads)


class TransposeConvLayer(nn.Module):
    """Transposed convolution with an activation: n points become s n, with the stride s.

    What the kernel adds at the borders is cropped, along each axis as many points before as behind,
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
        self.trans_conv = transposed_convolution(dimension)(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=_on_both_sides(kernel_size, stride),
        )
        glorot_(self.trans_conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        return self._activated(self.trans_conv(x), x.shape[2:])

    def _activated(self, y: Tensor, sizes: Sequence[int]) -> Tensor:
        (kernel_size, *_), (stride, *_) = self.trans_conv.kernel_size, self.trans_conv.stride
        y = _cut(y, sizes, kernel_size=kernel_size, stride=stride, lacking=self.cuts_short)
        return self.activation_fn(y)


def crop(x: Tensor, like: Tensor, dimension: int) -> Tensor:
    """Crop a field to the grid, the last ``dimension`` axes, of another one."""
    index: list[Any] = [slice(like.shape[axis]) for axis in range(-dimension, 0)]
    return x[..., *index]


def _on_both_sides(kernel_size: int, stride: int) -> int:
    """Return how many points a kernel needs on each side of any grid."""
    if not 0 < stride <= kernel_size:
        raise ValueError(
            f"expected a stride of at least 1 and a kernel_size of at least the stride, got "
            f"kernel_size={kernel_size} and stride={stride}"
        )
    return (kernel_size - stride) // 2


def _further_pads(lacking: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return how many points an axis needs beyond :func:`_on_both_sides`, before and behind it.

    Parameters
    ----------
    lacking
        How many points the axis lacks to a multiple of the stride.
    kernel_size, stride
        Those of the convolution.
    """
    total = kernel_size - stride + lacking
    before, padded = total // 2, _on_both_sides(kernel_size, stride)
    return before - padded, total - before - padded


@torch.fx.wrap  # symbolic tracing keeps the call, since what it does depends on sizes
def _pad(x: Tensor, kernel_size: int, stride: int, swapped: bool) -> Tensor:
    pads = [_further_pads(-size % stride, kernel_size, stride) for size in x.shape[2:]]
    # PyTorch counts the axes from the last one.
    amounts = [amount for pad in (pads if swapped else reversed(pads)) for amount in pad]
    return functional.pad(x, amounts) if any(amounts) else x


@torch.fx.wrap
def _cut(y: Tensor, sizes: Sequence[int], kernel_size: int, stride: int, lacking: bool) -> Tensor:
    lacks = [-size % stride if lacking else 0 for size in sizes]
    pads = [_further_pads(points, kernel_size, stride) for points in lacks]
    amounts = [-amount for pad in reversed(pads) for amount in pad]
    return functional.pad(y, amounts) if any(amounts) else y
