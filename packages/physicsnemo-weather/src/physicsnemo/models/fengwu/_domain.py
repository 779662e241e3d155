# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the latitudes of FengWu over ranks.

The entry-point group ``physicsnemo.domain`` names this module.
"""

from typing import Any

from physicsnemo.models.fengwu.fengwu import Fengwu
from physicsnemo.models.window_layers import DecoderLayer, EncoderLayer
from physicsnemo.models.window_layers import _domain as windows


def network(module: Fengwu, domain: Any) -> None:
    """Let a model redistribute rows of the image, and from resolution to resolution."""
    height, width = module.img_size
    image = windows.inputs(height, domain)
    for child in module.children():
        if isinstance(child, EncoderLayer):
            windows.encoder(child, domain, image)
        elif isinstance(child, DecoderLayer):
            windows.decoder(child, domain, image)
    module.img_size = (domain.chunks(height, domain.unit)[domain.rank], width)


def _division(model: Fengwu) -> tuple[int, int]:
    encoder = model.encoder_surface
    height = windows.windows_of(encoder.blocks).window[windows.LATITUDE]
    return 2, height * encoder.patchembed2d.patch_size[0]


MODELS = {Fengwu: _division}
RULES = {**windows.RULES, Fengwu: network}
