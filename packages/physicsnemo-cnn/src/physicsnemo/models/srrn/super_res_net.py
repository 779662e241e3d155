# SPDX-License-Identifier: Apache-2.0
"""Super-resolution residual network (SRResNet), for fields on regular grids in three dimensions."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import PixelShuffle, get_activation
from physicsnemo.nn.checks import check_at_least, check_input, field_layout, is_integer
from physicsnemo.nn.padding import padded_convolution

__all__ = ["MetaData", "SRResNet"]

_DOUBLINGS = {2: 1, 4: 2, 8: 3}


@dataclass
class MetaData(ModelMetaData):
    """What :class:`SRResNet` supports."""

    name: str = "SuperResolution"
    jit: bool = True
    cuda_graphs: bool = True
    amp: bool = True
    torch_fx: bool = True
    bf16: bool = True
    onnx: bool = True
    onnx_runtime: bool = True
    var_dim: int = 1
    func_torch: bool = True
    auto_grad: bool = True


class SRResNet(Module):
    """Super-resolution residual network (SRResNet): from fields on a coarse grid to a fine one.

    A wide convolution lifts the fields to latent channels, residual blocks work on the coarse
    grid, and sub-pixel convolutions (:class:`physicsnemo.nn.PixelShuffle`) each double the grid. A
    last wide convolution makes the output, without an activation.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    large_kernel_size
        Kernel size of the first and last convolution, an odd number.
    small_kernel_size
        Kernel size of all others, an odd number.
    conv_layer_size
        Latent channels.
    n_resid_blocks
        Number of residual blocks.
    scaling_factor
        Upscale factor of the grid, along each axis: 2, 4 or 8.
    activation_fn
        Activation: a name (:func:`physicsnemo.nn.get_activation`) or a module. The first
        convolution and the residual blocks share it, with its parameters if it has any; the
        blocks that refine the grid have a PReLU each.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If another option has a value that it cannot have.

    References
    ----------
    Ledig et al. 2017, Photo-realistic single image super-resolution using a generative
    adversarial network, arXiv:1609.04802.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.srrn import SRResNet
    >>> model = SRResNet(in_channels=3, out_channels=3, conv_layer_size=8, scaling_factor=2)
    >>> model(torch.randn(1, 3, 4, 5, 6)).shape
    torch.Size([1, 3, 8, 10, 12])
    """

    _draws_only_weights = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        large_kernel_size: int = 7,
        small_kernel_size: int = 3,
        conv_layer_size: int = 32,
        n_resid_blocks: int = 8,
        scaling_factor: int = 8,
        activation_fn: str | nn.Module = "prelu",
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(
            1, in_channels=in_channels, out_channels=out_channels, conv_layer_size=conv_layer_size
        )
        check_at_least(0, n_resid_blocks=n_resid_blocks)
        if not is_integer(scaling_factor) or scaling_factor not in _DOUBLINGS:
            raise ValueError(f"expected scaling_factor 2, 4 or 8, got {scaling_factor!r}")
        activation = (
            get_activation(activation_fn) if isinstance(activation_fn, str) else activation_fn
        )
        size, large, small = conv_layer_size, large_kernel_size, small_kernel_size
        self.layout = field_layout(in_channels, dimension=3)
        self.conv_block1 = ConvBlock(in_channels, size, large, activation_fn=activation)
        self.residual_blocks = nn.Sequential(
            *(ResidualBlock(size, small, activation) for _ in range(n_resid_blocks))
        )
        self.conv_block2 = ConvBlock(size, size, small, batch_norm=True)
        self.subpixel_convolutional_blocks = nn.Sequential(
            *(SubPixelBlock(size, small) for _ in range(_DOUBLINGS[scaling_factor]))
        )
        self.conv_block3 = ConvBlock(size, out_channels, large)

    def forward(self, in_vars: Tensor) -> Tensor:
        """Refine fields.

        Parameters
        ----------
        in_vars
            Fields of shape (batch, in_channels, n1, n2, n3).

        Returns
        -------
        Fields of shape (batch, out_channels, s n1, s n2, s n3), where s is ``scaling_factor``.

        Raises
        ------
        TypeError
            If ``in_vars`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected.
        """
        check_input(in_vars, self.layout, next(self.parameters()))
        lifted = self.conv_block1(in_vars)
        latent = lifted + self.conv_block2(self.residual_blocks(lifted))
        output: Tensor = self.conv_block3(self.subpixel_convolutional_blocks(latent))
        return output


class ConvBlock(nn.Module):
    """Convolution block: convolution, optional batch normalization, activation.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    kernel_size
        Kernel size, an odd number.
    batch_norm
        Batch normalization after the convolution.
    activation_fn
        Activation, or None for the identity.
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
            *padded_convolution(3, in_channels, out_channels, kernel_size=kernel_size), *norm
        )
        self.activation_fn = nn.Identity() if activation_fn is None else activation_fn

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_channels, *grid) to (batch, out_channels, *grid)."""
        output: Tensor = self.activation_fn(self.conv_block(x))
        return output


class ResidualBlock(nn.Module):
    """Residual block: two normalized convolutions around an activation, with a skip connection.

    Parameters
    ----------
    channels
        Input and output channels.
    kernel_size
        Kernel size, an odd number.
    activation_fn
        Activation between the convolutions.
    """

    def __init__(self, channels: int, kernel_size: int, activation_fn: nn.Module) -> None:
        super().__init__()
        block = partial(ConvBlock, channels, channels, kernel_size, batch_norm=True)
        self.conv_layers = nn.Sequential(
            block(activation_fn=activation_fn),
            block(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, channels, *grid) to fields of that shape."""
        output: Tensor = x + self.conv_layers(x)
        return output


class SubPixelBlock(nn.Module):
    """Sub-pixel convolution: a convolution, a pixel shuffle by 2 and a PReLU.

    Parameters
    ----------
    channels
        Input and output channels.
    kernel_size
        Kernel size, an odd number.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        (self.conv,) = padded_convolution(3, channels, 2**3 * channels, kernel_size=kernel_size)
        self.pixel_shuffle = PixelShuffle(2)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, channels, *grid) to (batch, channels, *finer)."""
        output: Tensor = self.prelu(self.pixel_shuffle(self.conv(x)))
        return output
