# SPDX-License-Identifier: Apache-2.0
"""Examples of the graph networks, for tests and benchmarks: graphs of every awkward kind."""

import runpy
from pathlib import Path

import torch

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.testing import Case


def on_graph(nodes: int, edges: int, *, joined: int = 1, features: tuple[int, int] = (4, 3)):
    """Return a function that makes the same features and graph each time.

    Edges lie anywhere: some join a node to itself or repeat another, some nodes have none.
    """

    def inputs():
        generator = torch.Generator().manual_seed(0)
        ends = [torch.randint(0, nodes, (2, edges), generator=generator) for _ in range(joined)]
        graph = Graph.join([Graph(edge_index, nodes) for edge_index in ends])
        sizes = zip((graph.num_nodes, graph.num_edges), features, strict=True)
        return (*(torch.randn(size, generator=generator) for size in sizes), graph)

    return inputs


SMALL = {
    "input_dim_nodes": 4,
    "input_dim_edges": 3,
    "output_dim": 2,
    "processor_size": 2,
    "hidden_dim_processor": 8,
    "hidden_dim_node_encoder": 6,
    "hidden_dim_edge_encoder": 5,
    "hidden_dim_node_decoder": 7,
}

CASES = [
    Case("sum", "MeshGraphNet", SMALL, on_graph(11, 14), batched=False),
    Case(
        "mean",
        "MeshGraphNet",
        SMALL
        | {
            "aggregation": "mean",
            "do_concat_trick": True,
            "mlp_activation_fn": "prelu",
            "num_layers_edge_processor": 1,
            "num_layers_node_processor": 3,
        },
        on_graph(5, 8, joined=3),
        batched=False,
    ),
    Case(
        "processor_alone",
        "MeshGraphNet",
        SMALL
        | {
            "input_dim_nodes": 8,
            "input_dim_edges": 8,
            "output_dim": 8,
            "num_layers_node_encoder": None,
            "num_layers_edge_encoder": None,
            "num_layers_node_decoder": None,
        },
        on_graph(6, 30, features=(8, 8)),
        batched=False,
    ),
]
CASES += runpy.run_path(str(Path(__file__).with_name("cases_multiscale.py")))["CASES"]
