# SPDX-License-Identifier: Apache-2.0
"""Layers of networks with sines for activations."""

import math
from enum import Enum, auto

import torch
from torch import Tensor, nn

from physicsnemo.nn.activations import Sin
from physicsnemo.nn.checks import check_above, check_at_least, check_input

__all__ = ["Sin", "SirenLayer", "SirenLayerType"]


class SirenLayerType(Enum):
    """Where in a network a layer is, on which its weights at the start depend."""

    FIRST = auto()
    HIDDEN = auto()
    LAST = auto()


class SirenLayer(nn.Module):
    r"""Layer of a sinusoidal representation network, :math:`\sin(\omega_0 (W x + b))`.

    The last layer of a network is linear. At the start, the weights are uniform and so large that
    the arguments of all sines have a variance near 1, whatever the depth.

    Parameters
    ----------
    in_features
        Input features, the size of the last axis.
    out_features
        Output features.
    layer_type
        Where in the network the layer is.
    omega_0
        Factor :math:`\omega_0` of the argument, which sets the frequencies of the first layer.

    References
    ----------
    Sitzmann et al. 2020, Implicit neural representations with periodic activation functions,
    arXiv:2006.09661, section 3.2 and its supplement.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.siren_layers import SirenLayer, SirenLayerType
    >>> SirenLayer(2, 16, SirenLayerType.FIRST)(torch.zeros(5, 2)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        layer_type: SirenLayerType = SirenLayerType.HIDDEN,
        omega_0: float = 30.0,
    ) -> None:
        super().__init__()
        check_at_least(1, in_features=in_features, out_features=out_features)
        check_above(0, omega_0=omega_0)
        if not isinstance(layer_type, SirenLayerType):
            raise TypeError(f"expected layer_type to be a SirenLayerType, got {layer_type!r}")
        self.layer_type = layer_type
        self.omega_0 = omega_0
        self.linear = nn.Linear(in_features, out_features)
        bound = 1 / in_features
        if layer_type is not SirenLayerType.FIRST:
            bound = math.sqrt(6 / in_features) / omega_0
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (..., in_features) to shape (..., out_features)."""
        layout = {"...": None, "in_features": self.linear.in_features}
        check_input(x, layout, self.linear.weight)
        y: Tensor = self.linear(x)
        return y if self.layer_type is SirenLayerType.LAST else torch.sin(self.omega_0 * y)
