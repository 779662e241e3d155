# SPDX-License-Identifier: Apache-2.0
"""GraphCast's layers give the same numbers on the mesh as a graph of any library."""

import sys

import pytest
import torch
from torch_geometric.data import Data

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.graphcast import build_graphs
from physicsnemo.models.graphcast.graph_cast_processor import GraphCastProcessor

MAKERS = {
    "tensors": lambda edges: Graph(edges, 42),
    "torch_geometric": lambda edges: Data(edge_index=edges, num_nodes=42),
}
if sys.version_info < (3, 12):  # which DGL 1.1 is not built for
    import dgl

    MAKERS["dgl"] = lambda edges: dgl.graph((edges[0], edges[1]), num_nodes=42)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_processor(make):
    torch.manual_seed(0)
    mesh = build_graphs(1, (7, 11)).mesh
    processor = GraphCastProcessor("mean", 2, 8, 8, 8)
    edges, nodes = torch.randn(mesh.num_edges, 8), torch.randn(mesh.num_nodes, 8)
    results = processor(edges, nodes, make(mesh.edge_index.clone()))
    assert all(map(torch.equal, results, processor(edges, nodes, mesh)))
