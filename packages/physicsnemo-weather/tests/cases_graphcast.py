# SPDX-License-Identifier: Apache-2.0
"""Examples of GraphCast: both processors, and the numerics of both kinds."""

import torch

from physicsnemo.testing import Case

SMALL = {
    "mesh_level": 1,
    "input_res": [9, 14],
    "input_dim_grid_nodes": 3,
    "output_dim_grid_nodes": 2,
    "processor_layers": 3,
    "hidden_dim": 8,
}


def fields(height: int = 9, width: int = 14):
    """Return a function that makes the same fields each time."""

    def inputs():
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(1, 3, height, width, generator=generator),)

    return inputs


NO_EDGES = "attention is among vertices, edges have no features"
CASES = [
    Case("messages", "GraphCastNet", SMALL, fields(), batched=False),
    Case(
        "reference",
        "GraphCastNet",
        SMALL
        | {
            "input_res": [6, 7],
            "multimesh": False,
            "aggregation": "mean",
            "activation_fn": "prelu",
            "hidden_layers": 2,
            "do_concat_trick": True,
            "recompute_activation": True,
            "numerics": "reference-1.2",
        },
        fields(6, 7),
        batched=False,
    ),
    Case(
        "attention",
        "GraphCastNet",
        SMALL | {"processor_type": "GraphTransformer", "khop_neighbors": 1},
        fields(),
        dead={
            f"encoder_embedder.mesh_edge_mlp.model.{layer}.{name}": NO_EDGES
            for layer in (0, 2, 3)
            for name in ("weight", "bias")
        },
        batched=False,
    ),
]
