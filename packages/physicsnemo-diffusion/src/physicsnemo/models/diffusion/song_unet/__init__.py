# SPDX-License-Identifier: Apache-2.0
"""The U-Net of Song et al., and its variants with positional and lead-time embeddings."""

from physicsnemo.models.diffusion.song_unet._backbone import MetaData, SongUNet
from physicsnemo.models.diffusion.song_unet._lead_times import SongUNetPosLtEmbd
from physicsnemo.models.diffusion.song_unet._positions import SongUNetPosEmbd

__all__ = ["MetaData", "SongUNet", "SongUNetPosEmbd", "SongUNetPosLtEmbd"]
