# SPDX-License-Identifier: Apache-2.0
"""Layers of U-Nets on the HEALPix grid, which covers the sphere by twelve square faces."""

from physicsnemo.models.dlwp_healpix_layers.healpix_blocks import (
    AvgPool,
    BasicConvBlock,
    ConvGRUBlock,
    ConvNeXtBlock,
    DoubleConvNeXtBlock,
    Interpolate,
    MaxPool,
    Multi_SymmetricConvNeXtBlock,
    SymmetricConvNeXtBlock,
    TransposedConvUpsample,
)
from physicsnemo.models.dlwp_healpix_layers.healpix_decoder import UNetDecoder
from physicsnemo.models.dlwp_healpix_layers.healpix_encoder import UNetEncoder
from physicsnemo.models.dlwp_healpix_layers.healpix_layers import (
    HEALPixFoldFaces,
    HEALPixLayer,
    HEALPixPadding,
    HEALPixPaddingv2,
    HEALPixUnfoldFaces,
)

__all__ = [
    "AvgPool",
    "BasicConvBlock",
    "ConvGRUBlock",
    "ConvNeXtBlock",
    "DoubleConvNeXtBlock",
    "HEALPixFoldFaces",
    "HEALPixLayer",
    "HEALPixPadding",
    "HEALPixPaddingv2",
    "HEALPixUnfoldFaces",
    "Interpolate",
    "MaxPool",
    "Multi_SymmetricConvNeXtBlock",
    "SymmetricConvNeXtBlock",
    "TransposedConvUpsample",
    "UNetDecoder",
    "UNetEncoder",
]
