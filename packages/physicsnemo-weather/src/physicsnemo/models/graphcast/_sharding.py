# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.graphcast.graph_cast_processor import TransformerLayer

PLAN = {
    "blocks": (TransformerLayer,),
    "whole": (TransformerLayer,),  # its parts are more than their forward
}
