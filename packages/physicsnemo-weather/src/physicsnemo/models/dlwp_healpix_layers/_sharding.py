# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.dlwp_healpix_layers.healpix_blocks import (
    BasicConvBlock,
    ConvGRUBlock,
    ConvNeXtBlock,
    DoubleConvNeXtBlock,
    SymmetricConvNeXtBlock,
)
from physicsnemo.models.dlwp_healpix_layers.healpix_decoder import UNetDecoder

PLAN = {
    "blocks": (BasicConvBlock, ConvNeXtBlock, DoubleConvNeXtBlock, SymmetricConvNeXtBlock),
    "methods": {ConvGRUBlock: ("step",), UNetDecoder: ("step",)},
}
