# SPDX-License-Identifier: Apache-2.0
"""Mesh-to-grid decoder: message passing on a bipartite graph that updates the target nodes."""

from typing import Any

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphMLP, edge_mlp
from physicsnemo.models.gnn_layers.messages import aggregate, check_aggregation

__all__ = ["MeshGraphDecoder"]


class MeshGraphDecoder(nn.Module):
    """Mesh-to-grid decoder: a message-passing step from mesh nodes to grid nodes.

    Messages are an MLP of the features of each edge and of both its nodes. Grid features are
    updated by an MLP of them and of the aggregated messages, with a residual connection.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the messages of a node's incoming edges.
    input_dim_src_nodes, input_dim_dst_nodes, input_dim_edges
        Number of features of mesh nodes, grid nodes and edges.
    output_dim_dst_nodes
        Number of outputs of the grid MLP, equal to ``input_dim_dst_nodes``.
    output_dim_edges
        Number of features of a message.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.
    do_concat_trick
        As in :class:`MeshEdgeBlock`.

    Raises
    ------
    ValueError
        If the aggregation is unknown.

    References
    ----------
    Lam et al. 2022, arXiv:2212.12794, section 3.7 of the supplement.
    """

    def __init__(
        self,
        aggregation: str = "sum",
        input_dim_src_nodes: int = 512,
        input_dim_dst_nodes: int = 512,
        input_dim_edges: int = 512,
        output_dim_dst_nodes: int = 512,
        output_dim_edges: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int = 1,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        do_concat_trick: bool = False,
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        check_aggregation(aggregation)
        self.aggregation = aggregation
        mlp_options: dict[str, Any] = {
            "hidden_dim": hidden_dim,
            "hidden_layers": hidden_layers,
            "activation_fn": activation_fn,
            "norm_type": norm_type,
            "recompute_activation": recompute_activation,
        }
        self.edge_mlp = edge_mlp(
            do_concat_trick=do_concat_trick,
            efeat_dim=input_dim_edges,
            src_dim=input_dim_src_nodes,
            dst_dim=input_dim_dst_nodes,
            output_dim=output_dim_edges,
            **mlp_options,
        )
        self.node_mlp = MeshGraphMLP(
            output_dim_edges + input_dim_dst_nodes, output_dim_dst_nodes, **mlp_options
        )

    def forward(
        self, m2g_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: GraphLike
    ) -> Tensor:
        """Update the grid features.

        Parameters
        ----------
        m2g_efeat
            Edge features, of shape (edges, input_dim_edges).
        grid_nfeat
            Grid features, those of the target nodes, of shape (grid nodes, input_dim_dst_nodes).
        mesh_nfeat
            Mesh features, those of the source nodes, of shape (mesh nodes, input_dim_src_nodes).
        graph
            Bipartite graph from the mesh to the grid.

        Returns
        -------
        The updated grid features.
        """
        graph = as_graph(graph)
        messages = self.edge_mlp(m2g_efeat, (mesh_nfeat, grid_nfeat), graph)
        incoming = aggregate(messages, graph.target, self.aggregation)
        update: Tensor = self.node_mlp(incoming, grid_nfeat)
        return grid_nfeat + update
