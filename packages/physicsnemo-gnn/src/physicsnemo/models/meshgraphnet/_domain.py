# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides graphs over ranks.

A model takes a ``physicsnemo.distributed.Part`` in place of the graph. The entry-point group
``physicsnemo.domain`` names this module.
"""

from typing import Any

from torch import Tensor

from physicsnemo.models.gnn_layers.mesh_edge_block import MeshEdgeBlock
from physicsnemo.models.gnn_layers.mesh_node_block import MeshNodeBlock
from physicsnemo.models.gnn_layers.processor import pass_messages
from physicsnemo.models.meshgraphnet.meshgraphnet import MeshGraphNet, MeshGraphNetProcessor


def model(module: MeshGraphNet, domain: Any) -> Any:
    """Return the forward of a model for the rank's nodes and edges."""

    def forward(node_features: Tensor, edge_features: Tensor, graph: Any, **kwargs: Any) -> Tensor:
        edges, nodes = module.edge_encoder(edge_features), module.node_encoder(node_features)
        output: Tensor = module.node_decoder(module.processor(nodes, edges, graph))
        return output

    return forward


def edge_block(module: MeshEdgeBlock, domain: Any) -> Any:
    """Return the forward of a block of edges, which fetches the nodes where they begin."""

    def forward(efeat: Tensor, nfeat: Tensor, graph: Any) -> tuple[Tensor, Tensor]:
        ends = graph.with_halo(nfeat), nfeat
        return module.edge_mlp(efeat, ends, graph.graph) + efeat, nfeat

    return forward


def node_block(module: MeshNodeBlock, domain: Any) -> Any:
    """Return the forward of a block of nodes, which have all their edges on one rank."""
    whole = module.forward

    def forward(efeat: Tensor, nfeat: Tensor, graph: Any) -> tuple[Tensor, Tensor]:
        return whole(efeat, nfeat, graph.graph)

    return forward


def processor(module: MeshGraphNetProcessor, domain: Any) -> Any:
    """Return the forward of a processor, which hands the part on as it is."""

    def forward(node_features: Tensor, edge_features: Tensor, graph: Any) -> Tensor:
        with module._offloading():
            _, nodes = pass_messages(
                module.processor_layers,
                efeat=edge_features,
                nfeat=node_features,
                graph=graph,
                segments=module._bounds,
            )
        return nodes

    return forward


MODELS = {MeshGraphNet: lambda model: (0, 1)}
RULES = {
    MeshGraphNetProcessor: processor,
    MeshGraphNet: model,
    MeshEdgeBlock: edge_block,
    MeshNodeBlock: node_block,
}
