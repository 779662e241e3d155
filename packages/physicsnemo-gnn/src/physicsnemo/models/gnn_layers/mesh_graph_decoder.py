# SPDX-License-Identifier: Apache-2.0
"""From the nodes of one kind back to those of another."""

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import (
    MeshGraphMLP,
    edge_perceptron,
)
from physicsnemo.models.gnn_layers.messages import aggregate, check_aggregation

__all__ = ["MeshGraphDecoder"]


class MeshGraphDecoder(nn.Module):
    """Bring features of a mesh to a grid, along the edges from one to the other.

    Features of the edges become a perceptron of them and of their nodes; those of the grid gain a
    perceptron of them and of the edges that enter.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the features of the edges that end at a node.
    input_dim_src_nodes, input_dim_dst_nodes, input_dim_edges
        Number of features of the mesh's nodes, of the grid's, and of the edges.
    output_dim_dst_nodes
        Number of features that the perceptron of the grid returns, the same as it takes.
    output_dim_edges
        Number of features that the edges bring to the grid.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.
    do_concat_trick
        As in :class:`MeshEdgeBlock`.

    Raises
    ------
    ValueError
        If there is no such aggregation.

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
        shape = (hidden_dim, hidden_layers, activation_fn, norm_type)
        self.edge_mlp = edge_perceptron(
            do_concat_trick,
            input_dim_edges,
            input_dim_src_nodes,
            input_dim_dst_nodes,
            output_dim_edges,
            *shape,
            recompute_activation=recompute_activation,
        )
        self.node_mlp = MeshGraphMLP(
            output_dim_edges + input_dim_dst_nodes,
            output_dim_dst_nodes,
            *shape,
            recompute_activation,
        )

    def forward(
        self, m2g_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: GraphLike
    ) -> Tensor:
        """Update the features of the grid.

        Parameters
        ----------
        m2g_efeat
            Features of the edges from the mesh to the grid, of shape (edges, input_dim_edges).
        grid_nfeat
            Features of the grid, the targets, of shape (grid nodes, input_dim_dst_nodes).
        mesh_nfeat
            Features of the mesh, the sources, of shape (mesh nodes, input_dim_src_nodes).
        graph
            The graph from the mesh to the grid.

        Returns
        -------
        The new features of the grid.
        """
        graph = as_graph(graph)
        efeat = self.edge_mlp(m2g_efeat, (mesh_nfeat, grid_nfeat), graph)
        entering = aggregate(efeat, graph.target, self.aggregation)
        update: Tensor = self.node_mlp(entering, grid_nfeat)
        return grid_nfeat + update
