# SPDX-License-Identifier: Apache-2.0
"""Checks of the arguments of GraphCastNet."""

from physicsnemo.nn.checks import check_at_least, check_choice

_TYPES = ("MessagePassing", "GraphTransformer")
# The finest mesh whose pairs of vertices are held in memory, of two gigabytes there.
_MOST_LEVELS_OF_ATTENTION = 6


def check_dims(
    input_dim_mesh_nodes: int, input_dim_edges: int, processor_layers: int, hidden_layers: int
) -> None:
    """Raise an error if a number is none that the network can have."""
    if (input_dim_mesh_nodes, input_dim_edges) != (3, 4):
        raise ValueError(
            f"expected input_dim_mesh_nodes=3 and input_dim_edges=4, as many features as are made "
            f"of the places of vertices and edges, got {input_dim_mesh_nodes} and {input_dim_edges}"
        )
    check_at_least(3, processor_layers=processor_layers)
    check_at_least(0, hidden_layers=hidden_layers)  # None, for no perceptron, is for other models


def check_processor(kind: str, khop_neighbors: int, mesh_level: int) -> None:
    """Raise an error unless there is a processor of that kind, for that mesh."""
    check_choice("processor_type", kind, _TYPES)
    if kind != "GraphTransformer":
        return
    check_at_least(1, khop_neighbors=khop_neighbors)
    check_at_least(0, mesh_level=mesh_level)
    if mesh_level > _MOST_LEVELS_OF_ATTENTION:
        raise ValueError(
            f"expected mesh_level of at most {_MOST_LEVELS_OF_ATTENTION} with GraphTransformer, "
            f"which holds all pairs of vertices, got {mesh_level}"
        )
