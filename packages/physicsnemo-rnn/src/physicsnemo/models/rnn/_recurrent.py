# SPDX-License-Identifier: Apache-2.0
"""Encoder, recurrent cell and decoder: the base of both models."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import EllipsisType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.models.rnn.layers import (
    ConvGRULayer,
    ConvLayer,
    ConvResidualBlock,
    TransposeConvLayer,
    crop,
)
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import Layout, check_at_least, check_grid, check_input
from physicsnemo.nn.dimensions import convolution
from physicsnemo.nn.numerics import PAPER, has_oddity, implied


class RecurrentModel(Module):
    """Base of ``One2ManyRNN`` and ``Seq2SeqRNN``, which document its arguments."""

    _implied_args = implied("swapped_pads", "short_doubling", "first_step_of_many")
    _meta: ClassVar[type[ModelMetaData]]

    def __init__(
        self,
        input_channels: int,
        dimension: int = 2,
        nr_latent_channels: int = 512,
        nr_residual_blocks: int = 2,
        activation_fn: str = "relu",
        nr_downsamples: int = 2,
        nr_tsteps: int = 32,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=self._meta())
        if dimension not in (2, 3):
            raise ValueError(f"expected dimension 2 or 3, got {dimension!r}")
        check_at_least(1, input_channels=input_channels, nr_residual_blocks=nr_residual_blocks)
        check_at_least(1, nr_downsamples=nr_downsamples, nr_tsteps=nr_tsteps)
        check_at_least(2, nr_latent_channels=nr_latent_channels)
        self.input_channels = input_channels
        self.dimension = dimension
        self.nr_tsteps = nr_tsteps
        self.ignores_further_steps = has_oddity(numerics, "first_step_of_many")
        # Files have one for all blocks, which matters where it has a parameter.
        activation = get_activation(activation_fn)
        options: dict[str, Any] = {"dimension": dimension, "numerics": numerics}
        block = partial(ConvResidualBlock, activation_fn=activation, **options)
        upsampling = partial(TransposeConvLayer, kernel_size=4, stride=2, **options)
        widths = [nr_latent_channels << level for level in range(nr_downsamples)]
        self.encoder_layers = _encoder(
            block, channels=input_channels, widths=widths, blocks=nr_residual_blocks
        )
        self.rnn_layer = ConvGRULayer(widths[-1], widths[-1], dimension)
        self.conv_layers = nn.ModuleList(
            ConvLayer(width, nr_latent_channels, dimension, kernel_size=1)
            for width in reversed(widths)
        )
        self.decoder_layers = _decoder(block, upsampling, widths=widths, blocks=nr_residual_blocks)
        self.final_conv = convolution(dimension)(nr_latent_channels, input_channels, kernel_size=1)
        # Files hold these, the last level under two names, but nothing depends on them.
        self.upsampling_layers = self.decoder_layers[-1]
        for unused in (self.upsampling_layers, *self.conv_layers[:-1]):
            unused.requires_grad_(False)
        activation.requires_grad_(True)

    def _check(self, x: Tensor, steps: dict[str, int | EllipsisType]) -> None:
        """Raise an error unless the input has so many time steps, given as an axis of a layout."""
        layout: Layout = {
            "batch": None,
            "input_channels": self.input_channels,
            **steps,
            **{f"n{axis}": ... for axis in range(1, self.dimension + 1)},
        }
        check_input(x, layout, self.final_conv.weight)
        check_grid(x, 1, "time is one of these axes")

    def _continue(self, encoding: Tensor, hidden: Tensor, x: Tensor) -> Tensor:
        """Return the fields that follow an encoding and a state, on the grid of the input."""
        fields = each_step(partial(self._decode, like=x), self._states(encoding, hidden))
        return in_time(fields, self.nr_tsteps)

    def _states(self, encoding: Tensor, hidden: Tensor) -> Iterator[Tensor]:
        hidden = self.rnn_layer(encoding, hidden)
        yield hidden
        for _ in range(1, self.nr_tsteps):
            hidden = self.rnn_layer.advance(hidden)
            yield hidden

    def _decode(self, state: Tensor, like: Tensor) -> Tensor:
        for level in list(self.decoder_layers)[:-1]:
            state = level(state)
        return crop(self.final_conv(self.conv_layers[-1](state)), like, self.dimension)


def _encoder(
    block: Callable[..., ConvResidualBlock], channels: int, widths: list[int], blocks: int
) -> nn.Sequential:
    """Return levels of blocks, the last one of each but the last level on to the next level."""
    layers = nn.Sequential()
    for width, next_width in zip(widths, [*widths[1:], None], strict=True):
        plan = [(width, 1)] * blocks
        if next_width is not None:
            plan[-1] = (next_width, 2)
        for out_channels, stride in plan:
            begin = len(layers) > 0
            layers.append(block(channels, out_channels, stride=stride, begin_activation_fn=begin))
            channels = out_channels
    return layers


def _decoder(
    block: Callable[..., ConvResidualBlock],
    upsampling: Callable[..., TransposeConvLayer],
    widths: list[int],
    blocks: int,
) -> nn.ModuleList:
    """Return levels that each double the grid, halve the channels and end in blocks."""
    levels = nn.ModuleList()
    for width in reversed(widths):
        half = width // 2
        level = nn.Sequential(upsampling(width, half))
        for index in range(blocks):
            level.append(block(half, half, begin_activation_fn=len(levels) + index > 0))
        levels.append(level)
    return levels


def each_step(function: Callable[[Tensor], Tensor], steps: Iterable[Tensor]) -> Iterator[Tensor]:
    """Apply a network to each time step: to all at once for training, else one after the other.

    Where gradients are recorded, whatever the function computes in between is kept for all steps,
    so one call is given all of them as one batch. Else a step is computed when its turn comes, and
    the next one can use its memory.

    Parameters
    ----------
    function
        Maps a batch to a batch of the same size, each sample by itself.
    steps
        The time steps, batches of one shape.
    """
    if not torch.is_grad_enabled():
        yield from map(function, steps)
        return
    batches = list(steps)
    results = function(torch.cat(batches)).chunk(len(batches))
    for index in range(len(batches)):
        yield results[index]


def in_time(steps: Iterator[Tensor], number: int) -> Tensor:
    """Stack time steps.

    Parameters
    ----------
    steps
        Fields of shape (batch, channels, *grid). Without gradients, only one exists at a time.
    number
        How many there are.

    Returns
    -------
    A field of shape (batch, channels, number, *grid).
    """
    if torch.is_grad_enabled():
        return torch.stack(list(steps), dim=2)
    field = torch.stack([next(steps)] * number, dim=2)  # room for all
    for index, step in enumerate(steps, start=1):
        field.select(2, index).copy_(step)
    return field
