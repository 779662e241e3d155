# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.mesh_reduced.mesh_reduced import Mesh_Reduced
from physicsnemo.models.mesh_reduced.temporal_model import DecoderLayer

PLAN = {
    "blocks": (DecoderLayer,),
    "methods": {Mesh_Reduced: ("encode", "decode")},
}
