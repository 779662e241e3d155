# SPDX-License-Identifier: Apache-2.0
"""U-Net encoder on the HEALPix grid."""

from collections.abc import Sequence

from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers.configuration import Configuration, build

__all__ = ["UNetEncoder"]


class UNetEncoder(nn.Module):
    """U-Net encoder: a convolution block at each level, with downsampling in between.

    Parameters
    ----------
    conv_block
        Configuration of the convolution blocks, with the path of the class under ``_target_``.
    down_sampling_block
        Configuration of the downsampling layers.
    recurrent_block
        Ignored; it makes the configuration interchangeable with the decoder's.
    input_channels
        Number of input channels.
    n_channels
        Number of channels at each level, the finest first.
    n_layers
        Number of layers of the block at each level, for blocks that have a choice.
    dilations
        Dilation of the block at each level, by default 1.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    Raises
    ------
    TypeError
        If a block does not take an argument of its configuration.
    ValueError
        If the numbers of levels differ, or a configuration names an unknown class.
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
        Features at each level, the finest first.
        """
        outputs = []
        for level in self.encoder:
            inputs = level(inputs)
            outputs.append(inputs)
        return outputs

    def reset(self) -> None:
        """Do nothing, as there is no hidden state; the decoder has the same method."""


def check_levels(
    n_channels: Sequence[int], n_layers: Sequence[int], dilations: Sequence[int] | None
) -> Sequence[int]:
    """Return the dilation at each level, by default 1.

    Raises
    ------
    ValueError
        If there are no levels, or fewer entries than levels; further entries are ignored, as in
        nvidia-physicsnemo.
    """
    dilations = [1] * len(n_channels) if dilations is None else dilations
    if not 0 < len(n_channels) <= min(len(n_layers), len(dilations)):
        raise ValueError(
            f"expected n_channels for one grid or more, and n_layers and dilations for as many, "
            f"got {list(n_channels)}, {list(n_layers)} and {list(dilations)}"
        )
    return dilations
