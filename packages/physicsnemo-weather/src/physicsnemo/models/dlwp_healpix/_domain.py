# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the faces of the HEALPix grid over ranks.

Faces are the second axis of the state, of forcing fields and of the output, the first of constants
and the third of the coupled fields of a step. A rank fetches the cells around its own faces. The
entry-point group ``physicsnemo.domain`` names this module.
"""

from dataclasses import replace
from typing import Any

from physicsnemo.models.dlwp_healpix.HEALPixRecUNet import HEALPixRecUNet
from physicsnemo.models.dlwp_healpix.HEALPixUNet import HEALPixUNet
from physicsnemo.models.dlwp_healpix_layers import HEALPixPadding
from physicsnemo.models.dlwp_healpix_layers._neighbors import FACES, around_healpix
from physicsnemo.models.face_layers._domain import own_faces, padding_of_own


def network(module: HEALPixUNet | HEALPixRecUNet, domain: Any) -> None:
    """Let a model work on its rank's faces."""
    faces = len(own_faces(FACES, domain))
    module.fields = replace(module.fields, faces=faces)
    pad = padding_of_own(around_healpix, FACES, domain)  # one, whose tables all layers share
    for layer in module.modules():
        if isinstance(layer, HEALPixPadding):
            layer._faces = faces
            vars(layer)["_pad"] = pad


MODELS = dict.fromkeys((HEALPixUNet, HEALPixRecUNet), lambda model: (1, 1))
RULES = {HEALPixUNet: network, HEALPixRecUNet: network}
