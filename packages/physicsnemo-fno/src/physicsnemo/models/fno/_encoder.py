# SPDX-License-Identifier: Apache-2.0
"""Encoder of the FNO, for grids of one to four dimensions."""

import operator
import warnings
from collections.abc import Iterable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.fno._spectral import SpectralConv, check_modes
from physicsnemo.nn import (
    Conv1dFCLayer,
    Conv2dFCLayer,
    Conv3dFCLayer,
    ConvFCLayer,
    ConvNdFCLayer,
    get_activation,
)
from physicsnemo.nn.checks import (
    check_at_least,
    check_choice,
    check_input,
    field_layout,
    is_integer,
)
from physicsnemo.nn.convolution import (
    pointwise_convolution,
    pointwise_linear,
    pointwise_weights,
)
from physicsnemo.nn.numerics import PAPER
from physicsnemo.nn.precision import at_least_float32

PADDING_TYPES = ("constant", "reflect", "replicate", "circular")


class FNOEncoder(nn.Module):
    """Encoder of the Fourier neural operator: lifting and Fourier layers.

    This is the base of :class:`FNO1DEncoder` to :class:`FNO4DEncoder`. It lifts the channels at
    each point to the latent size, pads the grid, applies Fourier layers (the sum of a
    :class:`SpectralConv` and a pointwise linear layer, then an activation except after the last
    one) and cuts the padding off again.

    Parameters
    ----------
    in_channels
        Input channels.
    num_fno_layers
        Number of Fourier layers.
    fno_layer_size
        Latent channels, at least 2.
    num_fno_modes
        Number of Fourier modes that :class:`SpectralConv` keeps, for all axes or for each.
    padding
        Padding: number of points to append to each axis of a field that is not periodic, for all
        axes or for each. A list that is too short leaves the remaining axes as they are; surplus
        entries of one that is too long are not used, and a warning says so.
    padding_type
        Padding type: ``constant`` (zeros), ``reflect``, ``replicate`` or ``circular``.
        Four dimensions take ``constant`` only.
    activation_fn
        Name of an activation (:func:`physicsnemo.nn.get_activation`) or a module; all layers
        share it, with its parameters if it has any.
    coord_features
        Coordinate features: append the coordinates of the points, from 0 to 1, to the channels.
    numerics
        As in :class:`SpectralConv`.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    NotImplementedError
        If the padding type is not available in four dimensions.
    ValueError
        If an option has a value that it cannot have.

    References
    ----------
    Li et al. 2020, arXiv:2010.08895.
    """

    dimension: ClassVar[int]
    lifting: ClassVar[type[ConvFCLayer]]

    def __init__(
        self,
        in_channels: int = 1,
        num_fno_layers: int = 4,
        fno_layer_size: int = 32,
        num_fno_modes: int | list[int] = 16,
        padding: int | list[int] = 8,
        padding_type: str = "constant",
        activation_fn: str | nn.Module = "gelu",
        coord_features: bool = True,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        check_at_least(1, in_channels=in_channels)
        check_at_least(0, num_fno_layers=num_fno_layers, fno_layer_size=fno_layer_size)
        if fno_layer_size < 2:
            raise ValueError(f"expected at least 2 latent channels, got {fno_layer_size}")
        self.in_channels = in_channels
        self.coord_features = coord_features
        self.padding = padding_of_each_axis(padding, self.dimension)
        self.padding_type = padding_type
        check_padding_type(padding_type, self.padding)
        self.modes = modes_of_each_axis(num_fno_modes, self.dimension)
        self.activation_fn = (
            get_activation(activation_fn) if isinstance(activation_fn, str) else activation_fn
        )
        half = fno_layer_size // 2
        self.lift_network = nn.Sequential(
            self.lifting(in_channels + self.dimension * coord_features, half),
            self.activation_fn,
            self.lifting(half, fno_layer_size),
        )
        self.spconv_layers = nn.ModuleList(
            SpectralConv(fno_layer_size, fno_layer_size, modes=self.modes, numerics=numerics)
            for _ in range(num_fno_layers)
        )
        self.conv_layers = nn.ModuleList(
            pointwise_convolution(self.lifting.dimension, fno_layer_size, fno_layer_size)
            for _ in range(num_fno_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Encode fields.

        Parameters
        ----------
        x
            Fields of shape (batch, in_channels, *grid).

        Returns
        -------
        Latent fields of shape (batch, fno_layer_size, *grid).

        Raises
        ------
        TypeError
            If ``x`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected, or the spectrum of its grid, with
            padding, has fewer modes than asked for.
        """
        check_input(x, field_layout(self.in_channels, self.dimension), next(self.parameters()))
        check_modes(self.modes, [n + p for n, p in zip(x.shape[2:], self.padding, strict=True)])
        unpadded = tuple(slice(n) for n in (None, *x.shape[2:]))
        points = self._lift(self._with_coordinates(x).movedim(1, -1))
        points = self._pad(points)
        for index, (conv, spconv) in enumerate(
            zip(self.conv_layers, self.spconv_layers, strict=True), start=1
        ):
            # The Fourier layer of the paper: W v + F^-1 (R . F v).
            weight, bias = pointwise_weights(conv)
            mixed = cast(SpectralConv, spconv).at_points(points, bias)
            points = functional.linear(points, weight) + mixed
            if index < len(self.conv_layers):
                points = self._activate(points)
        return points[unpadded].movedim(-1, 1)

    def meshgrid(
        self, shape: list[int], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return the coordinates of the grid points, each from 0 to 1.

        Parameters
        ----------
        shape
            Shape of the field, (batch, channels, *grid).
        device
            Where to put them.
        dtype
            Their type.

        Returns
        -------
        Coordinates of shape (batch, dimension, *grid), in the order of the axes.
        """
        batch, _, *grid = shape
        axes = [torch.linspace(0, 1, n, dtype=dtype, device=device) for n in grid]
        coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        return coordinates.expand(batch, *coordinates.shape)

    def grid_to_points(self, value: Tensor) -> tuple[Tensor, list[int]]:
        """Return a field as a list of points, and the shape that leads back.

        Parameters
        ----------
        value
            Field of shape (batch, channels, *grid).

        Returns
        -------
        Its values, of shape (points of all samples, channels), and its shape.
        """
        return value.movedim(1, -1).flatten(end_dim=-2), list(value.shape)

    def points_to_grid(self, value: Tensor, shape: list[int]) -> Tensor:
        """Return a list of points as a field.

        Parameters
        ----------
        value
            Values of shape (points of all samples, channels), with any number of channels.
        shape
            The shape that :meth:`grid_to_points` returned.

        Returns
        -------
        Field of shape (batch, channels, *grid).
        """
        batch, _, *grid = shape
        return value.reshape(batch, *grid, value.shape[-1]).movedim(-1, 1)

    def _with_coordinates(self, x: Tensor) -> Tensor:
        if not self.coord_features:
            return x
        # Half precision would merge neighboring points of fine grids.
        coordinates = self.meshgrid(list(x.shape), x.device, at_least_float32(x.dtype))
        return torch.cat((x, coordinates.to(x.dtype)), dim=1)

    def _lift(self, points: Tensor) -> Tensor:
        # Channels are last from here to the end, so that transforms and pointwise layers are matrix
        # products without copies in between. Files name the lifting as convolutions, which are
        # applied as linear layers therefore.
        first, _, second = (cast(ConvFCLayer, layer) for layer in self.lift_network)
        return pointwise_linear(second.conv, self._activate(pointwise_linear(first.conv, points)))

    def _activate(self, points: Tensor) -> Tensor:
        # An activation given as a module expects channels where convolutions have them.
        activated: Tensor = self.activation_fn(points.movedim(-1, 1))
        return activated.movedim(1, -1)

    def _pad(self, points: Tensor) -> Tensor:
        if not any(self.padding):
            return points
        widths = [width for points in reversed(self.padding) for width in (0, points)]
        if self.padding_type == "constant":
            return functional.pad(points, [0, 0, *widths])
        return functional.pad(points.movedim(-1, 1), widths, mode=self.padding_type).movedim(1, -1)


class FNO1DEncoder(FNOEncoder):
    """:class:`FNOEncoder` for fields of shape (batch, in_channels, n1)."""

    dimension, lifting = 1, Conv1dFCLayer


class FNO2DEncoder(FNOEncoder):
    """:class:`FNOEncoder` for fields of shape (batch, in_channels, n1, n2)."""

    dimension, lifting = 2, Conv2dFCLayer


class FNO3DEncoder(FNOEncoder):
    """:class:`FNOEncoder` for fields of shape (batch, in_channels, n1, n2, n3)."""

    dimension, lifting = 3, Conv3dFCLayer


class FNO4DEncoder(FNOEncoder):
    """:class:`FNOEncoder` for fields of shape (batch, in_channels, n1, n2, n3, n4)."""

    dimension, lifting = 4, ConvNdFCLayer


def modes_of_each_axis(num_fno_modes: Any, dimension: int) -> list[int]:
    """Return the number of modes of each axis.

    Raises
    ------
    TypeError
        If it is neither a whole number nor a list of such.
    ValueError
        If there is a list of another length than the dimension.
    """
    if is_integer(num_fno_modes):
        return [operator.index(num_fno_modes)] * dimension
    if not _are_integers(num_fno_modes):
        raise TypeError(f"expected num_fno_modes to be whole numbers, got {num_fno_modes!r}")
    if len(num_fno_modes) != dimension:
        raise ValueError(
            f"expected num_fno_modes to be one number, or a list of {dimension} for "
            f"dimension={dimension}, got {num_fno_modes}"
        )
    return [operator.index(modes) for modes in num_fno_modes]


def padding_of_each_axis(padding: Any, dimension: int) -> list[int]:
    """Return the padding of each axis: 0 where a list is too short, the surplus dropped.

    Raises
    ------
    TypeError
        If it is neither a whole number nor a list of such.
    ValueError
        If a number is negative.
    """
    if not is_integer(padding) and not _are_integers(padding):
        raise TypeError(f"expected padding to be whole numbers, got {padding!r}")
    given = [padding] * dimension if is_integer(padding) else padding
    widths = [operator.index(width) for width in given]
    if min(widths, default=0) < 0:
        raise ValueError(f"expected padding of at least 0 points, got {padding}")
    if len(widths) > dimension:
        warnings.warn(
            f"padding has {len(widths)} entries for dimension={dimension}; "
            f"not used: {widths[dimension:]}",
            stacklevel=2,
        )
    return (widths + [0] * dimension)[:dimension]


def check_padding_type(padding_type: str, widths: list[int]) -> None:
    """Check that fields can be padded in a way.

    Raises
    ------
    NotImplementedError
        If PyTorch lacks this type of padding for so many axes.
    ValueError
        If there is no such type.
    """
    check_choice("padding_type", padding_type, PADDING_TYPES)
    if padding_type != "constant" and len(widths) > 3 and any(widths):
        raise NotImplementedError(
            f"padding_type={padding_type!r} is not available for dimension={len(widths)}: PyTorch "
            f"has it for up to three grid axes; use 'constant', or padding=0"
        )


def _are_integers(values: Any) -> bool:
    return isinstance(values, Iterable) and all(map(is_integer, values))
