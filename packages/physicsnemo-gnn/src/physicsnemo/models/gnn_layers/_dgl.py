# SPDX-License-Identifier: Apache-2.0
"""The edges of a ``dgl.DGLGraph``."""

import sys
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers._edges import Edges
from physicsnemo.models.gnn_layers.graph import Graph


def read_edges(
    graph: Any, num_nodes: int | None, known: Graph | None, device: torch.device | None
) -> Edges:
    """Read a graph; where its edges are those known already, return the known tensor."""
    if sys.version_info >= (3, 12):
        raise RuntimeError(
            f"DGLGraph is supported on Python 3.11, the newest that DGL 1.1 is built for, and this "
            f"is {sys.version_info[0]}.{sys.version_info[1]}; pass a torch_geometric Data (PyG), "
            f"or physicsnemo.models.gnn_layers.Graph(edge_index, num_nodes), instead"
        )
    if len(graph.canonical_etypes) != 1:
        raise ValueError(
            f"expected a DGLGraph with one type of edges, got {graph.canonical_etypes}; take one, "
            f"as in graph[{graph.canonical_etypes[:1]}]"
        )
    (source, _, target) = graph.canonical_etypes[0]
    target_device = device if device is not None and graph.device.type == "cpu" else graph.device
    return Edges(
        _edge_index(graph, known, target_device),
        graph.num_nodes(source),
        graph.num_nodes(target),
        _pos(graph, source),
        *_batch(graph, source, target_device),
    )


def _edge_index(graph: Any, known: Graph | None, device: torch.device) -> Tensor:
    # DGL's tensors tell no version, and share the memory of those that the graph was made from.
    edges = torch.stack(graph.edges(order="eid")).to(device)
    if known is not None and known.device == device and torch.equal(known.edge_index, edges):
        return known.edge_index
    return edges


def _pos(graph: Any, ntype: str) -> Tensor | None:
    pos: Tensor | None = graph.nodes[ntype].data.get("pos")
    return pos


def _batch(graph: Any, ntype: str, device: torch.device) -> tuple[Tensor | None, int]:
    if graph.batch_size == 1:
        return None, 1
    sizes = graph.batch_num_nodes(ntype)
    number = torch.arange(graph.batch_size, device=sizes.device)
    batch = number.repeat_interleave(sizes, output_size=graph.num_nodes(ntype))
    return batch.to(device), graph.batch_size
