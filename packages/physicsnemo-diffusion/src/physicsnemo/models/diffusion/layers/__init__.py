# SPDX-License-Identifier: Apache-2.0
"""Layers of the U-Nets, as in Karras et al. 2022, arXiv:2206.00364."""

from physicsnemo.models.diffusion.layers.attention import Attention, AttentionOp
from physicsnemo.models.diffusion.layers.block import UNetBlock
from physicsnemo.models.diffusion.layers.convolution import Conv2d
from physicsnemo.models.diffusion.layers.embedding import FourierEmbedding, PositionalEmbedding
from physicsnemo.models.diffusion.layers.linear import Linear, weight_init
from physicsnemo.models.diffusion.layers.normalization import GroupNorm

__all__ = [
    "Attention",
    "AttentionOp",
    "Conv2d",
    "FourierEmbedding",
    "GroupNorm",
    "Linear",
    "PositionalEmbedding",
    "UNetBlock",
    "weight_init",
]
