# SPDX-License-Identifier: Apache-2.0
"""Examples of the models that reduce a mesh to coarser graphs or to a few points."""

import torch

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.meshgraphnet import bistride_levels
from physicsnemo.testing import Case

NETWORK = {
    "input_dim_nodes": 4,
    "input_dim_edges": 3,
    "processor_size": 1,
    "hidden_dim_processor": 8,
    "hidden_dim_node_encoder": 6,
    "hidden_dim_edge_encoder": 5,
    "hidden_dim_node_decoder": 7,
}


def triangles(rows: int, columns: int, dimensions: int = 2) -> Graph:
    """Return a mesh of bent triangles: a grid with diagonals, and a part that is not connected."""
    number = torch.arange(rows * columns).view(rows, columns)
    pairs = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
    pairs.append((number[:-1, :-1], number[1:, 1:]))
    edges = torch.cat([torch.stack((a.flatten(), b.flatten())) for a, b in pairs], dim=1)
    extra = torch.tensor([[0, 1], [1, 2]]) + number.numel()
    edges = torch.cat((edges, extra), dim=1)
    nodes = number.numel() + 4  # the last has no edge
    pos = torch.rand(nodes, dimensions, generator=torch.Generator().manual_seed(0))
    return Graph(torch.cat((edges, edges.flip(0)), dim=1), nodes, pos=pos)


def draw(*sizes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Return the same random tensors each time."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(size, generator=generator) for size in sizes)


def on_levels(num_levels: int, mesh: Graph, *, sorted_before: bool):
    """Return a function that makes features of a mesh and its coarser graphs."""

    def inputs():
        ms_edges, ms_ids = bistride_levels(mesh.edge_index, mesh.num_nodes, num_levels, mesh.pos)
        if not sorted_before:  # as a data loader hands them over
            ms_edges = [graph.edge_index[None] for graph in ms_edges]
            ms_ids = [ids[None] for ids in ms_ids]
        return (*draw((mesh.num_nodes, 4), (mesh.num_edges, 3)), mesh, ms_edges, ms_ids)

    return inputs


def between_points(samples: int, points: int):
    """Return a function that makes features of samples on one mesh, and pivotal points."""

    def inputs():
        mesh = triangles(4, 3)
        batch = Graph.join([mesh] * samples) if samples > 1 else mesh
        features = draw((batch.num_nodes, 4), (batch.num_edges, 3))
        pivotal = torch.rand(points, 2, generator=torch.Generator().manual_seed(1))
        return (*features, batch, mesh.pos, pivotal)

    return inputs


CONSTANT_POSITIONS = {
    "double_backward": "positions choose the nearest points, and no gradient reaches them",
    "vmap": "positions choose the nearest points, which is a graph for each sample",
}
SEQUENCE = {"input_dim": 6, "input_context_dim": 3, "num_layers_decoder": 2, "num_heads": 2}

# What a model can take besides, though it is not like the case's own inputs.
BATCHED = "loaders add an axis of one"
EDGES = {"ms_edges.*:fewer_axes": BATCHED, "ms_edges.*:no_points": "a level may have no edges"}
PLACES = {"position_*:float64": "positions choose neighbours in a type of their own"}

CASES = [
    Case(
        "two_levels",
        "BiStrideMeshGraphNet",
        NETWORK | {"output_dim": 2, "bistride_pos_dim": 2},
        on_levels(2, triangles(5, 4, 2), sorted_before=True),
        batched=False,
        accepts={"ms_ids.*:more_axes": BATCHED},
    ),
    Case(
        "twice",
        "BiStrideMeshGraphNet",
        NETWORK
        | {
            "output_dim": 2,
            "num_mesh_levels": 3,
            "num_layers_bistride": 1,
            "bistride_unet_levels": 2,
            "aggregation": "mean",
        },
        on_levels(3, triangles(24, 2, 3), sorted_before=False),
        batched=False,
        accepts=EDGES | {"ms_ids.*:fewer_axes": BATCHED},
    ),
    Case(
        "mesh_alone",
        "BiStrideMeshGraphNet",
        NETWORK | {"output_dim": 2, "bistride_pos_dim": 1, "num_mesh_levels": 0},
        on_levels(0, triangles(2, 3, 1), sorted_before=False),
        batched=False,
        accepts=EDGES,
    ),
    Case(
        "one_sample",
        "Mesh_Reduced",
        NETWORK | {"output_decode_dim": 2},
        between_points(1, points=5),
        batched=False,
        exceptions=CONSTANT_POSITIONS,
        accepts=PLACES,
    ),
    Case(
        "batch",
        "Mesh_Reduced",
        NETWORK | {"output_decode_dim": 2, "output_encode_dim": 4, "k": 8, "aggregation": "sum"},
        between_points(3, points=5),
        batched=False,
        exceptions=CONSTANT_POSITIONS,
        accepts=PLACES,
    ),
    Case("context", "Sequence_Model", SEQUENCE, lambda: draw((4, 5, 6), (4, 1, 3))),
    Case(
        "without_context",
        "Sequence_Model",
        SEQUENCE | {"dropout_rate": 0.1, "activation": "relu", "num_layers_input_encoder": 1},
        lambda: draw((4, 5, 6)),
        dead={
            f"context_encoder.model.{layer}.{name}": "there is no context"
            for layer in (0, 2, 4, 5)
            for name in ("weight", "bias")
        },
    ),
]
