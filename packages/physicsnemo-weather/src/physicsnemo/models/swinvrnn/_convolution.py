# SPDX-License-Identifier: Apache-2.0
"""Convolutions between the resolutions of SwinRNN."""

from typing import Literal

from torch import Tensor, nn

_RESIDUALS = 2


class ConvBlock(nn.Module):
    """A convolution, plus a series of normalized convolutions of its output.

    Parameters
    ----------
    in_chans
        Channels of the input.
    out_chans
        Channels of the output.
    num_groups
        Number of groups of channels that are normalized together; it must divide ``out_chans``.
    upsample
        1 for twice the resolution, 0 for the same, -1 for half of it, rounded up.
    """

    def __init__(
        self, in_chans: int, out_chans: int, num_groups: int, upsample: Literal[-1, 0, 1] = 0
    ) -> None:
        super().__init__()
        self.conv = (
            nn.ConvTranspose2d(in_chans, out_chans, 2, stride=2)
            if upsample == 1
            else nn.Conv2d(in_chans, out_chans, 3, stride=1 - upsample, padding=1)
        )
        layers: list[nn.Module] = []
        for _ in range(_RESIDUALS):
            layers.append(nn.Conv2d(out_chans, out_chans, 3, padding=1))
            layers.append(_GroupNorm(num_groups, out_chans))
            layers.append(nn.SiLU())
        self.b = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_chans, height, width) to another resolution."""
        x = self.conv(x)
        output: Tensor = x + self.b(x)
        return output


class _GroupNorm(nn.GroupNorm):
    """The same; in forward mode, PyTorch's cannot view what has its channels last in memory."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.contiguous())
