# SPDX-License-Identifier: Apache-2.0
"""U-Net decoder on the HEALPix grid."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, build
from physicsnemo.models.dlwp_healpix_layers.healpix_blocks import ConvGRUBlock
from physicsnemo.models.dlwp_healpix_layers.healpix_encoder import check_levels

__all__ = ["UNetDecoder"]


class UNetDecoder(nn.Module):
    """U-Net decoder: a convolution block at each level, upsampling, and skip connections.

    Parameters
    ----------
    conv_block
        Configuration of the convolution blocks, with the path of the class under ``_target_``.
    up_sampling_block
        Configuration of the upsampling layers, which keep the number of channels.
    output_layer
        Configuration of the output layer.
    recurrent_block
        Configuration of the recurrent blocks, a :class:`ConvGRUBlock`; None for none.
    n_channels
        Number of channels at each level, the coarsest first: those of the encoder, reversed.
    n_layers
        Number of layers of the block at each level, for blocks that have a choice.
    output_channels
        Number of output channels.
    dilations
        Dilation of the block at each level, by default 1; the output layer has the last.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    Raises
    ------
    TypeError
        If a block does not take an argument of its configuration.
    ValueError
        If the numbers of levels differ, or a configuration names an unknown class, or one that is
        not allowed.
    """

    def __init__(
        self,
        conv_block: Configuration,
        up_sampling_block: Configuration,
        output_layer: Configuration,
        recurrent_block: Configuration | None = None,
        n_channels: Sequence[int] = (64, 32, 16),
        n_layers: Sequence[int] = (1, 2, 2),
        output_channels: int = 1,
        dilations: Sequence[int] | None = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        self.n_channels = list(n_channels)
        dilations = check_levels(n_channels, n_layers, dilations)
        options = {"enable_nhwc": enable_nhwc, "enable_healpixpad": enable_healpixpad}
        levels = []
        for level, (channels, after) in enumerate(
            zip(n_channels, [*n_channels[1:], n_channels[-1]], strict=True)
        ):
            parts = {}
            if level:
                parts["upsamp"] = build(
                    up_sampling_block, in_channels=channels, out_channels=channels, **options
                )
            parts["conv"] = build(
                conv_block,
                in_channels=2 * channels if level else channels,
                latent_channels=channels,
                out_channels=after,
                dilation=dilations[level],
                n_layers=n_layers[level],
                **options,
            )
            if recurrent_block is not None:
                parts["recurrent"] = _recurrent(recurrent_block, in_channels=after, **options)
            levels.append(nn.ModuleDict(parts))
        self.decoder = nn.ModuleList(levels)
        self.output_layer = build(
            output_layer,
            in_channels=n_channels[-1],
            out_channels=output_channels,
            dilation=dilations[-1],
            **options,
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode the features of the encoder; recurrent blocks keep their hidden states.

        Parameters
        ----------
        inputs
            Features at each level, the finest first.

        Returns
        -------
        Faces of shape (batch * 12, output_channels, size, size).

        Raises
        ------
        ValueError
            If upsampling does not restore the size of a level.
        """
        blocks = self._recurrent_blocks()
        outputs, memory = self.step(inputs, [block.h for block in blocks])
        for block, h in zip(blocks, memory, strict=True):
            block.h = h
        return outputs

    def step(
        self, inputs: Sequence[Tensor], memory: Sequence[Tensor | None] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode with explicit hidden states.

        Parameters
        ----------
        inputs
            As in :meth:`forward`.
        memory
            Hidden state of each recurrent block, by default zero.

        Returns
        -------
        The faces, and the new hidden states.

        Raises
        ------
        ValueError
            As in :meth:`forward`.
        """
        x, kept = inputs[-1], []
        for index, level in enumerate(self.decoder):
            parts = cast(nn.ModuleDict, level)
            if index:
                x = _joined(parts["upsamp"](x), inputs[-1 - index])
            x = parts["conv"](x)
            if "recurrent" in parts:
                block = cast(ConvGRUBlock, parts["recurrent"])
                x, h = block.step(x, memory[index] if memory else None)
                kept.append(h)
        return cast(Tensor, self.output_layer(x)), kept

    def reset(self) -> None:
        """Reset the hidden states of the recurrent blocks."""
        for block in self._recurrent_blocks():
            block.reset()

    def _recurrent_blocks(self) -> list[ConvGRUBlock]:
        return [block for block in self.modules() if isinstance(block, ConvGRUBlock)]


def _recurrent(configuration: Configuration, **arguments: Any) -> ConvGRUBlock:
    block = build(configuration, **arguments)
    if not isinstance(block, ConvGRUBlock):
        raise ValueError(
            f"expected the configuration of a ConvGRUBlock as recurrent_block, got that of a "
            f"{type(block).__name__}"
        )
    return block


def _joined(x: Tensor, skipped: Tensor) -> Tensor:
    if x.shape[2:] != skipped.shape[2:]:
        raise ValueError(
            f"a grid of {tuple(skipped.shape[2:])} comes back as {tuple(x.shape[2:])}: expected "
            f"faces whose size is a multiple of that by which all levels make them coarser, and "
            f"an up_sampling_block that undoes the down_sampling_block"
        )
    return torch.cat((x, skipped), dim=1)
