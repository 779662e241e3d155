# SPDX-License-Identifier: Apache-2.0
"""Memory of a network that steps through time."""

import torch
from torch import Tensor, nn

from physicsnemo.models.dlwp_healpix_layers._convolutions import GeometryLayer
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import HEALPixLayer

__all__ = ["ConvGRUBlock"]


class ConvGRUBlock(nn.Module):
    """A gated recurrent unit of convolutions, whose memory is added to its input.

    The memory is zero at first, and again after :meth:`reset` or where the input's shape or device
    changes. It is kept from call to call, with whatever gradients it has, but not in files.

    Parameters
    ----------
    geometry_layer
        What applies a convolution to the faces.
    in_channels
        Channels of the input, and so of the memory and the output.
    kernel_size
        Size of the kernels, an odd number.
    enable_nhwc, enable_healpixpad
        As in :class:`HEALPixLayer`.

    References
    ----------
    Ballas et al. 2016, arXiv:1511.06432; Karlbauer et al. 2024, arXiv:2311.06253.
    """

    def __init__(
        self,
        geometry_layer: GeometryLayer = HEALPixLayer,
        in_channels: int = 3,
        kernel_size: int = 1,
        enable_nhwc: bool = False,
        enable_healpixpad: bool = False,
    ) -> None:
        super().__init__()
        options = {
            "layer": nn.Conv2d,
            "in_channels": 2 * in_channels,
            "kernel_size": kernel_size,
            "enable_nhwc": enable_nhwc,
            "enable_healpixpad": enable_healpixpad,
        }
        self.conv_gates = geometry_layer(out_channels=2 * in_channels, **options)
        self.conv_can = geometry_layer(out_channels=in_channels, **options)
        self.h: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Add the memory to faces, after both have changed it."""
        outputs, self.h = self.step(inputs, self.h)
        return outputs

    def step(self, inputs: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Do so with a memory that the caller keeps, and return the output and the new memory."""
        if h is None or h.shape != inputs.shape or h.device != inputs.device:
            h = torch.zeros_like(inputs)
        gates = torch.sigmoid(self.conv_gates(torch.cat((inputs, h), dim=1)))
        reset, update = gates.chunk(2, dim=1)
        candidate = torch.tanh(self.conv_can(torch.cat((inputs, reset * h), dim=1)))
        h = (1 - update) * h + update * candidate
        return inputs + h, h

    def reset(self) -> None:
        """Forget."""
        self.h = None
