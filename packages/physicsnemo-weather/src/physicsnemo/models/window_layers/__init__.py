# SPDX-License-Identifier: Apache-2.0
"""Window transformers on grids: patches, window attention, earth-specific and Swin stages.

Grids have their channels last: (batch, latitude, longitude, channels), or (batch, level, latitude,
longitude, channels).
"""

from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.earth import (
    DecoderLayer,
    EarthAttention,
    EncoderLayer,
    FuserLayer,
    earth_blocks,
)
from physicsnemo.models.window_layers.patches import (
    DownSample,
    PatchEmbed,
    PatchRecovery,
    UpSample,
    coarser,
)
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
