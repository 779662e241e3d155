# SPDX-License-Identifier: Apache-2.0
"""The blocks of the super-resolution network; none changes the grid but the last."""

from torch import Tensor, nn

from physicsnemo.nn import PixelShuffle
from physicsnemo.nn.padding import padded_convolution


class ConvBlock(nn.Module):
    """A convolution, a normalization if wanted, and an activation.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output.
    kernel_size
        Width of the convolution in points, an odd number.
    batch_norm
        Normalize what the convolution makes.
    activation_fn
        The activation, or None for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        batch_norm: bool = False,
        activation_fn: nn.Module | None = None,
    ) -> None:
        super().__init__()
        norm = [nn.BatchNorm3d(out_channels)] if batch_norm else []
        self.conv_block = nn.Sequential(
            *padded_convolution(3, in_channels, out_channels, kernel_size), *norm
        )
        self.activation_fn = nn.Identity() if activation_fn is None else activation_fn

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        output: Tensor = self.activation_fn(self.conv_block(x))
        return output


class ResidualBlock(nn.Module):
    """Two normalized convolutions around an activation, added to their input.

    Parameters
    ----------
    channels
        Channels of the input, and of the output.
    kernel_size
        Width of the convolutions in points, an odd number.
    activation_fn
        The activation.
    """

    def __init__(self, channels: int, kernel_size: int, activation_fn: nn.Module) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(
            ConvBlock(channels, channels, kernel_size, True, activation_fn),
            ConvBlock(channels, channels, kernel_size, True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, channels, *grid) to fields of that shape."""
        output: Tensor = x + self.conv_layers(x)
        return output


class SubPixelBlock(nn.Module):
    """A convolution whose channels become the points of a grid twice as fine, and a PReLU.

    Parameters
    ----------
    channels
        Channels of the input, and of the output.
    kernel_size
        Width of the convolution in points, an odd number.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        (self.conv,) = padded_convolution(3, channels, 2**3 * channels, kernel_size)
        self.pixel_shuffle = PixelShuffle(2)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, channels, *grid) to (batch, channels, *finer)."""
        output: Tensor = self.prelu(self.pixel_shuffle(self.conv(x)))
        return output
