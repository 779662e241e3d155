# SPDX-License-Identifier: Apache-2.0
"""Fourier neural operator (FNO), for fields on regular grids of one to four dimensions."""

from dataclasses import dataclass

from torch import Tensor

from physicsnemo.models.fno._encoder import (
    FNO1DEncoder,
    FNO2DEncoder,
    FNO3DEncoder,
    FNO4DEncoder,
    FNOEncoder,
)
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.mlp import FullyConnected
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import is_integer
from physicsnemo.nn.numerics import PAPER, implied

__all__ = ["FNO", "FNO1DEncoder", "FNO2DEncoder", "FNO3DEncoder", "FNO4DEncoder", "MetaData"]

_ENCODERS: dict[int, type[FNOEncoder]] = {
    encoder.dimension: encoder
    for encoder in (FNO1DEncoder, FNO2DEncoder, FNO3DEncoder, FNO4DEncoder)
}


@dataclass
class MetaData(ModelMetaData):
    """What :class:`FNO` supports."""

    name: str = "FourierNeuralOperator"
    jit: bool = True
    cuda_graphs: bool = True
    amp: bool = True
    var_dim: int = 1


class FNO(Module):
    """Fourier neural operator: a map between functions, learned from their values on a grid.

    An encoder lifts the input to latent channels and applies Fourier layers, whose weights belong
    to the low Fourier modes of the grid, so that one model serves grids of any resolution. A
    pointwise MLP then decodes the latent channels.

    Under autocast, products round their factors and results to half precision and sum in float32,
    those of the transforms too. With four layers and random weights that keep the size of fields,
    the output then differs from that in float64 by about 1 % of its norm in bfloat16 and 0.1 % in
    float16; without autocast, by 0.00005 %. Normalize inputs, since that is relative to their mean.

    Parameters
    ----------
    in_channels
        Input channels, coordinates not counted.
    out_channels
        Output channels.
    decoder_layers
        Number of hidden layers of the decoder.
    decoder_layer_size
        Hidden channels of the decoder. Without hidden layers it must equal
        ``latent_channels``.
    decoder_activation_fn
        Activation of the decoder, by name (:func:`physicsnemo.nn.get_activation`).
    dimension
        Number of spatial dimensions, 1 to 4.
    latent_channels
        Latent channels of the Fourier layers, at least 2.
    num_fno_layers
        Number of Fourier layers.
    num_fno_modes
        Number of Fourier modes that each layer keeps, for all axes or for each: ``m`` modes are
        the frequencies 0 to m - 1 of the last axis, and -m to m - 1 of any other. A grid must have
        at least m points (with padding) along an axis, and 2 m - 2 along the last.
    padding
        Padding: number of points to append to each axis for the Fourier layers, for all axes or for
        each; 0 for periodic functions. A list that is too short leaves the remaining axes
        as they are; surplus entries of one that is too long are not used, and a warning says so.
    padding_type
        Padding type: ``constant`` (zeros), ``reflect``, ``replicate`` or ``circular``.
        Four dimensions take ``constant`` only.
    activation_fn
        Activation of the encoder, by name (:func:`physicsnemo.nn.get_activation`); its layers share
        it, with its parameters if it has any.
    coord_features
        Coordinate features: append the coordinates of the points, from 0 to 1, to the channels.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. It matters in two or more dimensions
        where a grid (with padding) has fewer points than twice the modes: a mode that belongs to
        two sides of zero then has two weights, of which the later one holds; from 2.0 on, their
        sum.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    NotImplementedError
        If ``dimension`` is not 1 to 4, or the padding type is not available in four dimensions.
    ValueError
        If another option has a value that it cannot have.

    References
    ----------
    Li et al. 2020, Fourier neural operator for parametric partial differential equations,
    arXiv:2010.08895.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.fno import FNO
    >>> model = FNO(in_channels=4, out_channels=3, decoder_layers=2, num_fno_layers=2, padding=0)
    >>> model(torch.randn(32, 4, 32, 32)).shape
    torch.Size([32, 3, 32, 32])
    """

    _draws_only_weights = True
    _implied_args = implied("summed_corners")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        decoder_layers: int = 1,
        decoder_layer_size: int = 32,
        decoder_activation_fn: str = "silu",
        dimension: int = 2,
        latent_channels: int = 32,
        num_fno_layers: int = 4,
        num_fno_modes: int | list[int] = 16,
        padding: int | list[int] = 8,
        padding_type: str = "constant",
        activation_fn: str = "gelu",
        coord_features: bool = True,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        if not is_integer(dimension) or dimension not in _ENCODERS:
            raise NotImplementedError(f"expected dimension 1, 2, 3 or 4, got {dimension!r}")
        self.activation_fn = get_activation(activation_fn)
        self.decoder_net = FullyConnected(
            in_features=latent_channels,
            layer_size=decoder_layer_size,
            out_features=out_channels,
            num_layers=decoder_layers,
            activation_fn=decoder_activation_fn,
        )
        self.spec_encoder = _ENCODERS[dimension](
            in_channels,
            num_fno_layers=num_fno_layers,
            fno_layer_size=latent_channels,
            num_fno_modes=num_fno_modes,
            padding=padding,
            padding_type=padding_type,
            activation_fn=self.activation_fn,
            coord_features=coord_features,
            numerics=numerics,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *grid).

        Returns
        -------
        Fields of shape (batch, out_channels, *grid).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or the spectrum of its grid, with
            padding, has fewer modes than asked for.
        """
        points, shape = self.spec_encoder.grid_to_points(self.spec_encoder(x))
        return self.spec_encoder.points_to_grid(self.decoder_net(points), shape)
