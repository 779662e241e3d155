# SPDX-License-Identifier: Apache-2.0
"""Graphs, and the layers that pass messages on them.

A :class:`Graph` holds the edges as plain tensors; :func:`as_graph` makes one of what DGL, PyTorch
Geometric or a plugin calls a graph. :func:`gather` and :func:`aggregate` are all that layers need
of it.
"""

from physicsnemo.models.gnn_layers._checks import unchecked
from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph, forget_edges
from physicsnemo.models.gnn_layers.graph import Graph, Incidence
from physicsnemo.models.gnn_layers.mesh_edge_block import MeshEdgeBlock
from physicsnemo.models.gnn_layers.mesh_graph_decoder import MeshGraphDecoder
from physicsnemo.models.gnn_layers.mesh_graph_encoder import MeshGraphEncoder
from physicsnemo.models.gnn_layers.mesh_graph_mlp import (
    MeshGraphEdgeMLPConcat,
    MeshGraphEdgeMLPSum,
    MeshGraphMLP,
)
from physicsnemo.models.gnn_layers.mesh_node_block import MeshNodeBlock
from physicsnemo.models.gnn_layers.messages import aggregate, gather

__all__ = [
    "Graph",
    "GraphLike",
    "Incidence",
    "MeshEdgeBlock",
    "MeshGraphDecoder",
    "MeshGraphEdgeMLPConcat",
    "MeshGraphEdgeMLPSum",
    "MeshGraphEncoder",
    "MeshGraphMLP",
    "MeshNodeBlock",
    "aggregate",
    "as_graph",
    "forget_edges",
    "gather",
    "unchecked",
]
