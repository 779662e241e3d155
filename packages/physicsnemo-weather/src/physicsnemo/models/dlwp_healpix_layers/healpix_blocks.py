# SPDX-License-Identifier: Apache-2.0
"""Blocks of convolutions, coarsening, refinement and memory on the HEALPix grid.

All map faces of shape (batch * 12, channels, height, width) to such faces.
"""

from physicsnemo.models.dlwp_healpix_layers._convolutions import (
    BasicConvBlock,
    ConvNeXtBlock,
    DoubleConvNeXtBlock,
    Multi_SymmetricConvNeXtBlock,
    SymmetricConvNeXtBlock,
)
from physicsnemo.models.dlwp_healpix_layers._recurrence import ConvGRUBlock
from physicsnemo.models.dlwp_healpix_layers._resampling import (
    AvgPool,
    Interpolate,
    MaxPool,
    TransposedConvUpsample,
)

__all__ = [
    "AvgPool",
    "BasicConvBlock",
    "ConvGRUBlock",
    "ConvNeXtBlock",
    "DoubleConvNeXtBlock",
    "Interpolate",
    "MaxPool",
    "Multi_SymmetricConvNeXtBlock",
    "SymmetricConvNeXtBlock",
    "TransposedConvUpsample",
]
