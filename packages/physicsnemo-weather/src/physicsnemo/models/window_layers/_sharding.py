# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.earth import EarthAttention
from physicsnemo.models.window_layers.patches import PatchEmbed, PatchRecovery
from physicsnemo.models.window_layers.swin import SwinAttention

PLAN = {
    "blocks": (WindowBlock,),
    # Convolutions are applied as matrices, attention in chunks of its heads.
    "whole": (EarthAttention, PatchEmbed, PatchRecovery, SwinAttention),
}
