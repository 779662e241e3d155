# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the faces of the cubed sphere over ranks.

Faces are the third axis of inputs and outputs. A rank fetches the cells around its own faces. The
entry-point group ``physicsnemo.domain`` names this module.
"""

from typing import Any

from physicsnemo.models.dlwp._cubed_sphere import FACES
from physicsnemo.models.dlwp.dlwp import DLWP
from physicsnemo.models.face_layers._domain import own_faces, padding_of_own


def network(module: DLWP, domain: Any) -> None:
    """Let a model work on its rank's faces."""
    module._faces = own_faces(FACES, domain)
    vars(module)["_pad"] = padding_of_own(module.around, FACES, domain)


MODELS = {DLWP: lambda model: (2, 1)}
RULES = {DLWP: network}
