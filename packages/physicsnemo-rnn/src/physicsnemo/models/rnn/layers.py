# SPDX-License-Identifier: Apache-2.0
"""The recurrent cell, and the layers that bring fields to its grid and back."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.rnn._convolution import ConvLayer, TransposeConvLayer, crop
from physicsnemo.nn.activations import Activation, as_activation
from physicsnemo.nn.numerics import PAPER

__all__ = ["ConvGRULayer", "ConvLayer", "ConvResidualBlock", "TransposeConvLayer"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class ConvGRULayer(nn.Module):
    r"""A gated recurrent unit whose products are convolutions.

    From an input :math:`x` and a state :math:`h`, fields on one grid, it makes the next state

    .. math::
        h' = (1 - z)\, n + z h,
        \quad (r, z) = \sigma(W_1 * (x, h) + b_1),
        \quad n = \varphi(W_2 * (x, r h) + b_2).

    Parameters
    ----------
    in_channels
        Channels of the input.
    hidden_channels
        Channels of the state.
    dimension
        Number of grid axes, 1 to 3.
    activation_fn
        The activation :math:`\varphi`: a name (:func:`physicsnemo.nn.get_activation`), a module or
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
        convolve = _CONVOLUTIONS[self.dimension]
        gates = convolve(hidden, of_input + of_state, self.conv_1.conv.bias, padding=1)
        return self._next(hidden, hidden, gates)

    def _next(self, x: Tensor, hidden: Tensor, gates: Tensor) -> Tensor:
        reset, keep = gates.sigmoid().chunk(2, dim=1)
        candidate = self.conv_2(torch.cat((x, reset * hidden), dim=1))
        mixed: Tensor = (1 - keep) * candidate + keep * hidden
        return mixed


class ConvResidualBlock(nn.Module):
    """Two convolutions beside a skip connection, the second one gated by a third.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output, at least as many. The skip connection has zeros in the first ones
        where they are more.
    dimension
        Number of grid axes, 1 to 3.
    stride
        1, or 2 to halve the grid; the skip connection then takes means of neighbours.
    begin_activation_fn
        Begin with the activation, before the first convolution.
    activation_fn
        Name of the activation (:func:`physicsnemo.nn.get_activation`), a module or function, or
        None for none.
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
            in_channels, out_channels, dimension, 2 + stride, stride, numerics=numerics
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
