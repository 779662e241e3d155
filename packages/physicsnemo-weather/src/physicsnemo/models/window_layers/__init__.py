# SPDX-License-Identifier: Apache-2.0
"""Layers of transformers on grids: patches, attention within windows, coarser and finer grids.

Grids between layers have their channels last: (batch, latitude, longitude, channels), or (batch,
level, latitude, longitude, channels).
"""

from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.earth import EarthAttention, earth_blocks
from physicsnemo.models.window_layers.patches import PatchEmbed, PatchRecovery
from physicsnemo.models.window_layers.resampling import DownSample, UpSample, coarser
from physicsnemo.models.window_layers.stages import DecoderLayer, EncoderLayer, FuserLayer
from physicsnemo.models.window_layers.swin import SwinTransformer
from physicsnemo.models.window_layers.windows import Windows

__all__ = [
    "DecoderLayer",
    "DownSample",
    "EarthAttention",
    "EncoderLayer",
    "FuserLayer",
    "PatchEmbed",
    "PatchRecovery",
    "SwinTransformer",
    "UpSample",
    "WindowBlock",
    "Windows",
    "coarser",
    "earth_blocks",
]
