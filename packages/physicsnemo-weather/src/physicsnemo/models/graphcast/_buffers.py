# SPDX-License-Identifier: Apache-2.0
"""A graph as part of a model."""

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from physicsnemo.models.gnn_layers import Graph


class GraphBuffers(nn.Module):
    """Holds a graph that moves with the model from device to device and is in no checkpoint.

    Call it for the graph.
    """

    edge_index: Tensor
    source_order: Tensor
    source_starts: Tensor
    target_order: Tensor
    target_starts: Tensor

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        for name, tensor in (
            ("edge_index", graph.edge_index),
            ("source_order", graph.source.order),
            ("source_starts", graph.source.starts),
            ("target_order", graph.target.order),
            ("target_starts", graph.target.starts),
        ):
            self.register_buffer(name, tensor.to(torch.get_default_device()), persistent=False)
        self._structure = pytree.tree_structure(graph)

    def forward(self) -> Graph:
        """Return the graph; its edges are not sorted again."""
        source, target = self.edge_index
        parts = [self.edge_index, None, None, source, self.source_order, self.source_starts]
        parts += [target, self.target_order, self.target_starts]
        graph: Graph = pytree.tree_unflatten(parts, self._structure)
        return graph
