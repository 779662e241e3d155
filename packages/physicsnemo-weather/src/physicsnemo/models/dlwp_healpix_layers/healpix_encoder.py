# SPDX-License-Identifier: Apache-2.0
"""The first half of a U-Net: from fine grids to coarse ones."""

from collections.abc import Sequence

from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers._levels import check_levels
from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, build

__all__ = ["UNetEncoder"]


class UNetEncoder(nn.Module):
    """Blocks of convolutions on coarser and coarser grids.

    Parameters
    ----------
    conv_block
        Configuration of the block on each grid, with the class's path under ``_target_``.
    down_sampling_block
        Configuration of what makes the grid coarser.
    recurrent_block
        Not used; there so that encoder and decoder can have the same configuration.
    input_channels
        Channels of the input.
    n_channels
        Channels on each grid.
    n_layers
        Number of layers of the block on each grid, for those blocks that heed it.
    dilations
        Dilation of the block on each grid, by default 1.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    Raises
    ------
    TypeError
        If a block does not take what its configuration says.
    ValueError
        If the numbers of grids differ, or a configuration names no known class.
    """

    def __init__(
        self,
        conv_block: Configuration,
        down_sampling_block: Configuration,
        recurrent_block: Configuration | None = None,
        input_channels: int = 3,
        n_channels: Sequence[int] = (16, 32, 64),
        n_layers: Sequence[int] = (2, 2, 1),
        dilations: Sequence[int] | None = None,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        self.n_channels = list(n_channels)
        dilations = check_levels(n_channels, n_layers, dilations)
        options = {"enable_nhwc": enable_nhwc, "enable_healpixpad": enable_healpixpad}
        levels = []
        before = input_channels
        for level, channels in enumerate(n_channels):
            block = build(
                conv_block,
                in_channels=before,
                latent_channels=channels,
                out_channels=channels,
                dilation=dilations[level],
                n_layers=n_layers[level],
                **options,
            )
            coarser = [build(down_sampling_block, **options)] if level else []
            levels.append(nn.Sequential(*coarser, block))
            before = channels
        self.encoder = nn.ModuleList(levels)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Encode faces.

        Parameters
        ----------
        inputs
            Faces of shape (batch * 12, input_channels, size, size).

        Returns
        -------
        What each grid's block makes of them, the finest first.
        """
        outputs = []
        for level in self.encoder:
            inputs = level(inputs)
            outputs.append(inputs)
        return outputs

    def reset(self) -> None:
        """Do nothing, for there is no memory; there so that both halves have the method."""
