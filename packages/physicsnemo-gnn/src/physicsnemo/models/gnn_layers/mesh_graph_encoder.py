# SPDX-License-Identifier: Apache-2.0
"""Grid-to-mesh encoder: message passing on a bipartite graph that updates all nodes."""

from typing import Any

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphMLP, edge_mlp
from physicsnemo.models.gnn_layers.messages import aggregate, average, check_aggregation

__all__ = ["MeshGraphEncoder"]


class MeshGraphEncoder(nn.Module):
    """Grid-to-mesh encoder: a message-passing step from grid nodes to mesh nodes.

    Messages are an MLP of the features of each edge and of both its nodes. Mesh features are
    updated by an MLP of them and of the aggregated messages, grid features by an MLP of themselves,
    both with a residual connection.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the messages of a node's incoming edges.
    input_dim_src_nodes, input_dim_dst_nodes, input_dim_edges
        Number of features of grid nodes, mesh nodes and edges.
    output_dim_src_nodes, output_dim_dst_nodes
        Number of outputs of the node MLPs, equal to that of their features.
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
    Lam et al. 2022, arXiv:2212.12794, section 3.5 of the supplement.
    """

    def __init__(
        self,
        aggregation: str = "sum",
        input_dim_src_nodes: int = 512,
        input_dim_dst_nodes: int = 512,
        input_dim_edges: int = 512,
        output_dim_src_nodes: int = 512,
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
        self.src_node_mlp = MeshGraphMLP(input_dim_src_nodes, output_dim_src_nodes, **mlp_options)
        self.dst_node_mlp = MeshGraphMLP(
            output_dim_edges + input_dim_dst_nodes, output_dim_dst_nodes, **mlp_options
        )

    def forward(
        self, g2m_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: GraphLike
    ) -> tuple[Tensor, Tensor]:
        """Update the grid features and the mesh features.

        Parameters
        ----------
        g2m_efeat
            Edge features, of shape (edges, input_dim_edges).
        grid_nfeat
            Grid features, those of the source nodes, of shape (grid nodes, input_dim_src_nodes).
        mesh_nfeat
            Mesh features, those of the target nodes, of shape (mesh nodes, input_dim_dst_nodes).
        graph
            Bipartite graph from the grid to the mesh.

        Returns
        -------
        The updated grid features and mesh features.
        """
        graph = as_graph(graph)
        sums = self.sum_messages(g2m_efeat, grid_nfeat, mesh_nfeat, graph)
        return self.update_grid(grid_nfeat), self.update_mesh(sums, mesh_nfeat, graph)

    def sum_messages(
        self, g2m_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: Graph
    ) -> Tensor:
        """Return the sums of the messages to each mesh node."""
        messages = self.edge_mlp(g2m_efeat, (grid_nfeat, mesh_nfeat), graph)
        return aggregate(messages, graph.target)

    def update_grid(self, grid_nfeat: Tensor) -> Tensor:
        """Return the updated grid features, which depend on no messages."""
        update: Tensor = self.src_node_mlp(grid_nfeat)
        return grid_nfeat + update

    def update_mesh(self, sums: Tensor, mesh_nfeat: Tensor, graph: Graph) -> Tensor:
        """Return the mesh features, updated by the sums of all messages along the graph."""
        incoming = sums if self.aggregation == "sum" else average(sums, graph.target)
        update: Tensor = self.dst_node_mlp(incoming, mesh_nfeat)
        return mesh_nfeat + update
