# SPDX-License-Identifier: Apache-2.0
"""Graphs and message-passing layers.

A :class:`Graph` holds edges as plain tensors; :func:`as_graph` converts a graph of DGL, PyTorch
Geometric or a plugin to one. Layers use it through :func:`gather` and :func:`aggregate` alone.
"""

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph, forget_edges
from physicsnemo.models.gnn_layers.checks import unchecked
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
