# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network that no package ships: the kind that users bring along."""

from dataclasses import dataclass

from torch import Tensor, nn

from physicsnemo import ModelMetaData, Module


@dataclass
class MetaData(ModelMetaData):
    """What :class:`UNet` supports."""

    name: str = "UNet"
    jit: bool = True
    cuda_graphs: bool = True
    amp: bool = True


class UNet(Module):
    """Two convolutions that halve the grid, and one that doubles it; it has no skip connections.

    Parameters
    ----------
    in_channels
        Channels of the input, of shape (batch, in_channels, height, width).
    out_channels
        Channels of the output, of half its height and width.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1) -> None:
        super().__init__(meta=MetaData())
        self.layers = nn.Sequential(
            *_halve(in_channels, 64),
            *_halve(64, 128),
            nn.ConvTranspose2d(128, 64, 2, stride=2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network."""
        output: Tensor = self.layers(x)
        return output


def _halve(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return convolution, nn.ReLU(inplace=True), nn.MaxPool2d(2)
