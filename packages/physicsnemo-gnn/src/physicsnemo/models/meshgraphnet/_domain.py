# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the models' graphs over ranks.

A model takes a ``physicsnemo.distributed.Part`` in place of the graph. The entry-point group
``physicsnemo.domain`` names this module.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from physicsnemo.models.gnn_layers._domain import make_part_hierarchy
from physicsnemo.models.gnn_layers.processor import pass_messages
from physicsnemo.models.meshgraphnet.bsms_mgn import BiStrideMeshGraphNet
from physicsnemo.models.meshgraphnet.meshgraphnet import MeshGraphNet, MeshGraphNetProcessor


def model(module: MeshGraphNet, domain: Any) -> Any:
    """Return the forward of a model for the rank's nodes and edges."""

    def forward(node_features: Tensor, edge_features: Tensor, graph: Any, **kwargs: Any) -> Tensor:
        _check_parts([graph])
        edges, nodes = module.edge_encoder(edge_features), module.node_encoder(node_features)
        output: Tensor = module.node_decoder(module.processor(nodes, edges, graph))
        return output

    return forward


def multiscale_model(module: BiStrideMeshGraphNet, domain: Any) -> Any:
    """Return the forward of a model for the rank's nodes and edges, on all levels."""

    def forward(
        node_features: Tensor,
        edge_features: Tensor,
        graph: Any,
        ms_edges: Sequence[Any] = (),
        ms_ids: Sequence[Tensor] = (),
        **kwargs: Any,
    ) -> Tensor:
        _check_parts([graph, *ms_edges])
        if (len(ms_edges), len(ms_ids)) != (module.num_mesh_levels + 1, module.num_mesh_levels):
            raise ValueError(
                f"expected {module.num_mesh_levels + 1} ms_edges and {module.num_mesh_levels} "
                f"ms_ids for num_mesh_levels={module.num_mesh_levels}, got {len(ms_edges)} and "
                f"{len(ms_ids)}"
            )
        pos = module._positions(graph.graph)[: len(node_features)]
        hierarchy = make_part_hierarchy(pos, ms_edges, ms_ids)
        edges, nodes = module.edge_encoder(edge_features), module.node_encoder(node_features)
        nodes = module.processor(nodes, edges, graph)
        for _ in range(module.bistride_unet_levels):
            nodes = module.bistride_processor(nodes, hierarchy)
        output: Tensor = module.node_decoder(nodes)
        return output

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


def _check_parts(graphs: Sequence[Any]) -> None:
    """Raise an error for graphs that are whole."""
    for graph in graphs:
        if not hasattr(graph, "with_halo"):
            raise TypeError(
                f"expected this rank's part of a graph, got {type(graph).__name__}; make it by "
                f"physicsnemo.distributed.partition, and parts of coarser graphs by "
                f"partition_levels"
            )


MODELS = {
    BiStrideMeshGraphNet: lambda model: (0, 1),
    MeshGraphNet: lambda model: (0, 1),
}
RULES = {
    BiStrideMeshGraphNet: multiscale_model,
    MeshGraphNet: model,
    MeshGraphNetProcessor: processor,
}
