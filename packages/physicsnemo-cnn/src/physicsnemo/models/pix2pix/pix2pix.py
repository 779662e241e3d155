# SPDX-License-Identifier: Apache-2.0
"""Generator of pix2pix, for fields on regular grids of one to three dimensions."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import (
    check_at_least,
    check_choice,
    check_grid,
    check_input,
    field_layout,
)
from physicsnemo.nn.dimensions import batch_normalization, convolution, transposed_convolution
from physicsnemo.nn.padding import PADDING_TYPES, padded_convolution

__all__ = ["MetaData", "Pix2Pix", "ResnetBlock"]

_WIDE = 7
TOO_SMALL = (
    "the model reflects fields at their borders: refine the grid or, if it has 4 points, build "
    "the model with a smaller n_downsampling or with padding_type='replicate'"
)


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Pix2Pix` supports."""

    name: str = "Pix2Pix"
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


class Pix2Pix(Module):
    """Pix2pix generator: a convolutional encoder, residual blocks and a convolutional decoder.

    A wide convolution lifts the fields to latent channels. Strided convolutions then halve the
    grid and double the channels, residual blocks work on the coarse grid, where the receptive field
    is large, and transposed convolutions go back; surplus ones refine the grid beyond that of the
    input. A last wide convolution makes the output, without an activation.

    An axis of n points becomes one of n * 2^(n_upsampling - n_downsampling) points where
    n_upsampling is larger, else of n; if 2^n_downsampling does not divide n, n is rounded up to the
    next multiple.

    Parameters
    ----------
    in_channels
        Input channels.
    out_channels
        Output channels.
    dimension
        Number of spatial dimensions, 1 to 3.
    conv_layer_size
        Base channel count: latent channels on the finest grid; each downsampling doubles them.
    n_downsampling
        Number of downsamplings, each by 2.
    n_upsampling
        Number of upsamplings, each by 2; at least ``n_downsampling`` are made.
    n_blocks
        Number of residual blocks on the coarsest grid.
    activation_fn
        Activation: a name (:func:`physicsnemo.nn.get_activation`) or a module; all layers
        share it, with its parameters if it has any.
    batch_norm
        Batch normalization after each convolution but the last.
    padding_type
        Padding type of the residual blocks: ``reflect``, ``replicate`` or ``zero``. The wide
        convolutions always reflect.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    NotImplementedError
        If ``dimension`` is not 1 to 3.
    ValueError
        If another option has a value that it cannot have.

    References
    ----------
    Isola et al. 2017, Image-to-image translation with conditional adversarial networks,
    arXiv:1611.07004; Wang et al. 2018, arXiv:1711.11585, whose global generator this is; and
    Johnson et al. 2016, arXiv:1603.08155, where that comes from.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.pix2pix import Pix2Pix
    >>> model = Pix2Pix(in_channels=1, out_channels=2, dimension=2, conv_layer_size=8)
    >>> model(torch.randn(4, 1, 32, 64)).shape
    torch.Size([4, 2, 32, 64])
    """

    _draws_only_weights = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        conv_layer_size: int = 64,
        n_downsampling: int = 3,
        n_upsampling: int = 3,
        n_blocks: int = 3,
        activation_fn: str | nn.Module = "relu",
        batch_norm: bool = False,
        padding_type: str = "reflect",
    ) -> None:
        super().__init__(meta=MetaData())
        if dimension not in (1, 2, 3):
            raise NotImplementedError(f"expected dimension 1, 2 or 3, got {dimension!r}")
        check_at_least(
            1, in_channels=in_channels, out_channels=out_channels, conv_layer_size=conv_layer_size
        )
        check_at_least(
            0, n_downsampling=n_downsampling, n_upsampling=n_upsampling, n_blocks=n_blocks
        )
        check_choice("padding_type", padding_type, PADDING_TYPES)
        self.layout = field_layout(in_channels, dimension)
        self.downsamplings = n_downsampling
        # A grid needs more points than are reflected: 3 of the given one, 1 of the coarsest one.
        reflects = n_blocks > 0 and padding_type == "reflect"
        self.least_points = max(_WIDE // 2, 2**n_downsampling if reflects else 0) + 1
        activation = (
            get_activation(activation_fn) if isinstance(activation_fn, str) else activation_fn
        )

        def after(channels: int) -> list[nn.Module]:
            return [*_normalization(dimension, channels, batch_norm), activation]

        coarser = [conv_layer_size * 2**level for level in range(n_downsampling + 1)]
        finer = [*reversed(coarser), *[conv_layer_size] * (n_upsampling - n_downsampling)]
        wide = partial(padded_convolution, dimension, kernel_size=_WIDE, padding_type="reflect")
        layers = wide(in_channels, conv_layer_size)
        layers += after(conv_layer_size)
        for channels, doubled in pairwise(coarser):
            layers += [_halving(dimension, channels, doubled), *after(doubled)]
        for _ in range(n_blocks):
            layers.append(
                ResnetBlock(
                    dimension,
                    channels=coarser[-1],
                    padding_type=padding_type,
                    activation=activation,
                    use_batch_norm=batch_norm,
                )
            )
        for channels, fewer in pairwise(finer):
            layers += [_doubling(dimension, channels, fewer), *after(fewer)]
        layers += wide(conv_layer_size, out_channels)
        self.model = nn.Sequential(*layers)
        if dimension == 2:
            # A third faster on GPUs, and twice as fast in half precision; in 3D, nothing is gained.
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, input: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        input
            Fields of shape (batch, in_channels, *grid).

        Returns
        -------
        Fields of shape (batch, out_channels, *grid), on a finer grid if the model is so made.

        Raises
        ------
        TypeError
            If ``input`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or its grid is too small to be
            reflected: an axis needs 4 points, and more than 2^n_downsampling if the residual
            blocks reflect too.
        """
        check_input(input, self.layout, next(self.parameters()))
        check_grid(input, self.least_points, TOO_SMALL)
        output: Tensor = self.model(input)
        return output.contiguous()


class ResnetBlock(nn.Module):
    """Residual block: two convolutions of width 3 around an activation, with a skip connection.

    Parameters
    ----------
    dimension
        Number of spatial dimensions, 1 to 3.
    channels
        Input and output channels.
    padding_type
        Padding type: ``reflect``, ``replicate`` or ``zero``.
    activation
        Activation between the convolutions, by default a ReLU.
    use_batch_norm
        Batch normalization after each convolution.

    Raises
    ------
    ValueError
        If there is no such type of padding, or ``dimension`` is not 1 to 3.

    References
    ----------
    He et al. 2016, arXiv:1512.03385; without the last activation, as in Gross and Wilber 2016.
    """

    def __init__(
        self,
        dimension: int,
        channels: int,
        padding_type: str = "reflect",
        activation: nn.Module | None = None,
        use_batch_norm: bool = False,
    ) -> None:
        super().__init__()

        def layer() -> list[nn.Module]:
            convolution = padded_convolution(
                dimension, channels, channels, kernel_size=3, padding_type=padding_type
            )
            return [*convolution, *_normalization(dimension, channels, use_batch_norm)]

        between = nn.ReLU() if activation is None else activation
        self.conv_block = nn.Sequential(*layer(), between, *layer())

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, channels, *grid) to fields of that shape."""
        output: Tensor = x + self.conv_block(x)
        return output


def _normalization(dimension: int, channels: int, wanted: bool) -> list[nn.Module]:
    return [batch_normalization(dimension)(channels)] if wanted else []


def _halving(dimension: int, in_channels: int, out_channels: int) -> nn.Module:
    return convolution(dimension)(in_channels, out_channels, kernel_size=3, stride=2, padding=1)


def _doubling(dimension: int, in_channels: int, out_channels: int) -> nn.Module:
    return transposed_convolution(dimension)(
        in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1
    )
