# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.fno._encoder import FNOEncoder
from physicsnemo.models.fno._spectral import SpectralConv

PLAN = {
    "blocks": (SpectralConv,),
    "whole": (FNOEncoder,),  # pointwise convolutions are applied as matrices
    "methods": {SpectralConv: ("at_points",)},
}
