# SPDX-License-Identifier: Apache-2.0
"""Pointwise convolutions: fully connected layers for the channels of fields on grids."""

from typing import ClassVar, cast

from torch import Tensor, nn
from torch.nn.utils import parametrizations

from physicsnemo.nn.activations import Activation, as_activation
from physicsnemo.nn.dimensions import Convolution, convolution
from physicsnemo.nn.linear import glorot_


class ConvFCLayer(nn.Module):
    """Pointwise linear layer with an activation, for the channels of fields on grids.

    This is the common body of :class:`Conv1dFCLayer` to :class:`ConvNdFCLayer`, which differ in
    the convolution that they hold as ``conv``. Weights start from Glorot's uniform distribution,
    biases from zero.

    Parameters
    ----------
    in_features
        Input channels.
    out_features
        Output channels.
    activation_fn
        Name of an activation (:func:`get_activation`), a module or function, or None for none.
    activation_par
        Adaptive activation: a trainable factor on its input, of shape (1,), which layers may share.
    weight_norm
        Weight normalization (:func:`torch.nn.utils.parametrizations.weight_norm`).
    """

    dimension: ClassVar[int | None]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation_fn: Activation = None,
        activation_par: nn.Parameter | None = None,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        self.activation_fn = as_activation(activation_fn)
        self.activation_par = activation_par
        conv = pointwise_convolution(self.dimension, in_features, out_features)
        self.conv = glorot_(conv)
        if weight_norm:
            holder = conv.conv if isinstance(conv, ConvNdKernel1Layer) else conv
            parametrizations.weight_norm(holder)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_features, *grid) to (batch, out_features, *grid)."""
        x = self.conv(x)
        return self.activation_fn(x if self.activation_par is None else self.activation_par * x)


class Conv1dFCLayer(ConvFCLayer):
    """:class:`ConvFCLayer` for fields of shape (batch, in_features, n1)."""

    dimension = 1


class Conv2dFCLayer(ConvFCLayer):
    """:class:`ConvFCLayer` for fields of shape (batch, in_features, n1, n2)."""

    dimension = 2


class Conv3dFCLayer(ConvFCLayer):
    """:class:`ConvFCLayer` for fields of shape (batch, in_features, n1, n2, n3)."""

    dimension = 3


class ConvNdFCLayer(ConvFCLayer):
    """:class:`ConvFCLayer` for fields of shape (batch, in_features, *grid), whatever the grid."""

    dimension = None


class ConvNdKernel1Layer(nn.Module):
    """Pointwise convolution for any number of spatial dimensions.

    PyTorch has convolutions for up to three; this one flattens the grid into one axis.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        points: Tensor = self.conv(x.flatten(start_dim=2))
        return points.reshape(*points.shape[:2], *x.shape[2:])


def pointwise_convolution(
    dimension: int | None, in_channels: int, out_channels: int
) -> Convolution | ConvNdKernel1Layer:
    """Return a pointwise convolution, with the initial weights of PyTorch.

    Parameters
    ----------
    dimension
        Number of spatial dimensions, or None for any number.
    in_channels
        Input channels.
    out_channels
        Output channels.
    """
    if dimension is None or dimension > 3:
        return ConvNdKernel1Layer(in_channels, out_channels)
    return convolution(dimension)(in_channels, out_channels, kernel_size=1)


def pointwise_linear(convolution: nn.Module, points: Tensor) -> Tensor:
    """Apply a pointwise convolution to fields with channels last, as one matrix product.

    Parameters
    ----------
    convolution
        What :func:`pointwise_convolution` returns.
    points
        Fields of shape (batch, *grid, in_channels).

    Returns
    -------
    Fields of shape (batch, *grid, out_channels).
    """
    return nn.functional.linear(points, *pointwise_weights(convolution))


def pointwise_weights(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the weight of a pointwise convolution, (out_channels, in_channels), and its bias.

    Parameters
    ----------
    convolution
        What :func:`pointwise_convolution` returns.
    """
    holder = convolution.conv if isinstance(convolution, ConvNdKernel1Layer) else convolution
    weight, bias = cast(Tensor, holder.weight), cast(Tensor, holder.bias)
    return weight.flatten(start_dim=1), bias
