# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the latitudes of Pangu-Weather over ranks.

Latitudes are the third axis of the input and of surface fields, and the fourth of fields on levels.
The entry-point group ``physicsnemo.domain`` names this module.
"""

from typing import Any

from physicsnemo.models.pangu.pangu import Pangu
from physicsnemo.models.window_layers import _domain as windows


def network(module: Pangu, domain: Any) -> None:
    """Let a model redistribute rows of the image, and from resolution to resolution."""
    height, width = module.img_size
    image = windows.inputs(height, domain)
    fine, coarse = (windows.held(stage.blocks, domain) for stage in (module.layer1, module.layer2))
    windows.embed(module.patchembed2d, domain, image, fine)
    windows.embed(module.patchembed3d, domain, image, fine)
    windows.halve(module.downsample, domain, fine, coarse)
    windows.double(module.upsample, domain, coarse, fine)
    windows.recover(module.patchrecovery2d, domain, fine, image)
    windows.recover(module.patchrecovery3d, domain, fine, image)
    module.img_size = (domain.chunks(height, domain.unit)[domain.rank], width)


def _division(model: Pangu) -> tuple[int, int]:
    height = windows.windows_of(model.layer1.blocks).window[windows.LATITUDE]
    return 2, height * model.patchembed2d.patch_size[0]


MODELS = {Pangu: _division}
RULES = {**windows.RULES, Pangu: network}
