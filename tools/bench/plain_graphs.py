# SPDX-License-Identifier: Apache-2.0
"""MeshGraphNet as one writes it down with PyTorch Geometric."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from physicsnemo import Module
from physicsnemo.models.gnn_layers import Graph, MeshEdgeBlock, MeshNodeBlock
from physicsnemo.models.meshgraphnet import MeshGraphNet


class PlainMeshGraphNet(Module):
    """A MeshGraphNet whose messages PyTorch Geometric gathers, joins and scatters.

    Parameters
    ----------
    model
        The model whose weights it has.
    """

    def __init__(self, model: MeshGraphNet) -> None:
        super().__init__(meta=model.meta)
        self.model = model
        blocks: list[Any] = list(model.processor.processor_layers)
        self.steps = nn.ModuleList(map(Step, blocks[::2], blocks[1::2]))

    def forward(self, nodes: Tensor, edges: Tensor, graph: Graph) -> Tensor:
        """Map features of nodes and edges to outputs of the nodes."""
        nodes = self.model.node_encoder.model(nodes)
        edges = self.model.edge_encoder.model(edges)
        for step in self.steps:
            nodes, edges = step(nodes, edges, graph.edge_index)
        output: Tensor = self.model.node_decoder.model(nodes)
        return output


class Step(MessagePassing):  # type: ignore[misc]  # it has no types
    """A step of message passing.

    Parameters
    ----------
    edge_block, node_block
        The blocks whose MLPs it applies.
    """

    def __init__(self, edge_block: MeshEdgeBlock, node_block: MeshNodeBlock) -> None:
        super().__init__(aggr=node_block.aggregation)
        self.edge_mlp = cast(nn.Module, edge_block.edge_mlp.model)
        self.node_mlp = node_block.node_mlp.model

    def forward(self, x: Tensor, edges: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Update features of nodes and edges."""
        edges = edges + self.edge_updater(edge_index, x=x, edges=edges)
        entering = self.propagate(edge_index, edges=edges, size=(len(x), len(x)))
        return x + self.node_mlp(torch.cat((entering, x), dim=-1)), edges

    def edge_update(self, x_i: Tensor, x_j: Tensor, edges: Tensor) -> Tensor:
        """Return what is added to the features of the edges."""
        update: Tensor = self.edge_mlp(torch.cat((edges, x_j, x_i), dim=-1))
        return update

    def message(self, edges: Tensor) -> Tensor:
        """Send the features of each edge to its target."""
        return edges
