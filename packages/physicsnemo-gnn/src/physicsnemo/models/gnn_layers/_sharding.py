# SPDX-License-Identifier: Apache-2.0
"""How these modules are sharded over processes, as ``physicsnemo.distributed.Plan`` says."""

from physicsnemo.models.gnn_layers.bsms import GraphMessagePassing
from physicsnemo.models.gnn_layers.mesh_edge_block import MeshEdgeBlock
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphEdgeMLPConcat, MeshGraphMLP
from physicsnemo.models.gnn_layers.mesh_node_block import MeshNodeBlock

PLAN = {
    "blocks": (GraphMessagePassing, MeshEdgeBlock, MeshNodeBlock),
    # Their first layer is applied in parts.
    "whole": (MeshGraphMLP, MeshGraphEdgeMLPConcat),
}
