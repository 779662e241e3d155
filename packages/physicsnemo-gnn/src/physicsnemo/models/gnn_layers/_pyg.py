# SPDX-License-Identifier: Apache-2.0
"""The edges of a ``torch_geometric`` ``Data``, ``Batch`` or ``HeteroData``."""

from typing import Any

import torch

from physicsnemo.models.gnn_layers._edges import Edges
from physicsnemo.models.gnn_layers.graph import Graph


def read_edges(
    data: Any, num_nodes: int | None, known: Graph | None, device: torch.device | None
) -> Edges:
    """Read a graph; its own tensors are returned."""
    nodes, edges = _stores(data)
    if edges.get("edge_index") is None:
        raise ValueError(
            f"expected a {type(data).__name__} with edge_index, got one with {list(edges.keys())}; "
            f"set data.edge_index to integers of shape (2, edges)"
        )
    count = _count(nodes, num_nodes)
    num_graphs = getattr(data, "num_graphs", 1)  # of a Batch
    batch = nodes.get("batch") if num_graphs > 1 else None
    return Edges(edges["edge_index"], count, count, nodes.get("pos"), batch, num_graphs)


def _stores(data: Any) -> tuple[Any, Any]:
    """Return what holds the tensors of the nodes, and those of the edges."""
    if not hasattr(data, "node_types"):
        return data._store, data._store
    if len(data.node_types) != 1 or len(data.edge_types) != 1:
        raise ValueError(
            f"expected a HeteroData with one type of nodes and one of edges, got nodes of "
            f"{data.node_types} and edges of {data.edge_types}; take one of each, as in "
            f"data.edge_type_subgraph([...]), or call data.to_homogeneous()"
        )
    return data[data.node_types[0]], data[data.edge_types[0]]


def _count(nodes: Any, num_nodes: int | None) -> int:
    """Return the number of nodes; only a caller's, rather than a guess, where the data lacks it."""
    tells = {"num_nodes", "x", "pos", "batch"} & set(nodes.keys())
    if tells or num_nodes is None:
        return int(nodes.num_nodes)
    return num_nodes
