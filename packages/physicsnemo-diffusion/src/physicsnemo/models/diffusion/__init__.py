# SPDX-License-Identifier: Apache-2.0
"""Diffusion models: U-Nets that denoise, and preconditioners that scale what these see."""

from physicsnemo.models.diffusion.dhariwal_unet import DhariwalUNet
from physicsnemo.models.diffusion.layers import (
    AttentionOp,
    Conv2d,
    FourierEmbedding,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    UNetBlock,
    weight_init,
)
from physicsnemo.models.diffusion.preconditioning import (
    EDMPrecond,
    EDMPrecondSR,
    EDMPrecondSuperResolution,
    VEPrecond,
    VEPrecond_dfsr,
    VEPrecond_dfsr_cond,
    VPPrecond,
    iDDPMPrecond,
    tEDMPrecondSuperRes,
)
from physicsnemo.models.diffusion.song_unet import SongUNet, SongUNetPosEmbd, SongUNetPosLtEmbd
from physicsnemo.models.diffusion.unet import StormCastUNet, UNet

__all__ = [
    "AttentionOp",
    "Conv2d",
    "DhariwalUNet",
    "EDMPrecond",
    "EDMPrecondSR",
    "EDMPrecondSuperResolution",
    "FourierEmbedding",
    "GroupNorm",
    "Linear",
    "PositionalEmbedding",
    "SongUNet",
    "SongUNetPosEmbd",
    "SongUNetPosLtEmbd",
    "StormCastUNet",
    "UNet",
    "UNetBlock",
    "VEPrecond",
    "VEPrecond_dfsr",
    "VEPrecond_dfsr_cond",
    "VPPrecond",
    "iDDPMPrecond",
    "tEDMPrecondSuperRes",
    "weight_init",
]
