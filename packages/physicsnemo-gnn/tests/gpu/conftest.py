# SPDX-License-Identifier: Apache-2.0
"""The graph that kernels are tried on."""

import pytest
import torch

from physicsnemo.models.gnn_layers import Graph

NODES, EDGES = 300, 2000  # no multiples of the kernels' blocks


@pytest.fixture
def graph(gpu):
    """Return a graph that has nodes without edges, and one with many."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(0, NODES - 1, (2, EDGES), generator=generator)
    ends[:, :500] = 7
    return Graph(ends, NODES).to(gpu)
