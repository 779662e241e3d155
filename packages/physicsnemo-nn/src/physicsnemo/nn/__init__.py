# SPDX-License-Identifier: Apache-2.0
"""Layers that two or more model families use; none of them is a registered model."""

from physicsnemo.nn.activations import (
    CappedGELU,
    CappedLeakyReLU,
    Sin,
    SquarePlus,
    Stan,
    get_activation,
)
from physicsnemo.nn.convolution import (
    Conv1dFCLayer,
    Conv2dFCLayer,
    Conv3dFCLayer,
    ConvFCLayer,
    ConvNdFCLayer,
    ConvNdKernel1Layer,
)
from physicsnemo.nn.linear import FCLayer, WeightFactLinear, WeightNormLinear
from physicsnemo.nn.pixel_shuffle import PixelShuffle
from physicsnemo.nn.transformer import DropPath, Mlp

__all__ = [
    "CappedGELU",
    "CappedLeakyReLU",
    "Conv1dFCLayer",
    "Conv2dFCLayer",
    "Conv3dFCLayer",
    "ConvFCLayer",
    "ConvNdFCLayer",
    "ConvNdKernel1Layer",
    "DropPath",
    "FCLayer",
    "Mlp",
    "PixelShuffle",
    "Sin",
    "SquarePlus",
    "Stan",
    "WeightFactLinear",
    "WeightNormLinear",
    "get_activation",
]
