# SPDX-License-Identifier: Apache-2.0
"""From the nodes of one kind to those of another, updating both."""

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import (
    MeshGraphMLP,
    edge_perceptron,
)
from physicsnemo.models.gnn_layers.messages import aggregate, check_aggregation

__all__ = ["MeshGraphEncoder"]


class MeshGraphEncoder(nn.Module):
    """Bring features of a grid to a mesh, along the edges from one to the other.

    Features of the edges become a perceptron of them and of their nodes; those of the mesh gain a
    perceptron of them and of the edges that enter; those of the grid gain one of themselves.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the features of the edges that end at a node.
    input_dim_src_nodes, input_dim_dst_nodes, input_dim_edges
        Number of features of the grid's nodes, of the mesh's, and of the edges.
    output_dim_src_nodes, output_dim_dst_nodes
        Numbers of features that the perceptrons of nodes return, the same as they take.
    output_dim_edges
        Number of features that the edges bring to the mesh.
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
        self.src_node_mlp = MeshGraphMLP(
            input_dim_src_nodes, output_dim_src_nodes, *shape, recompute_activation
        )
        self.dst_node_mlp = MeshGraphMLP(
            output_dim_edges + input_dim_dst_nodes,
            output_dim_dst_nodes,
            *shape,
            recompute_activation,
        )

    def forward(
        self, g2m_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: GraphLike
    ) -> tuple[Tensor, Tensor]:
        """Update the features of all nodes.

        Parameters
        ----------
        g2m_efeat
            Features of the edges from the grid to the mesh, of shape (edges, input_dim_edges).
        grid_nfeat
            Features of the grid, the sources, of shape (grid nodes, input_dim_src_nodes).
        mesh_nfeat
            Features of the mesh, the targets, of shape (mesh nodes, input_dim_dst_nodes).
        graph
            The graph from the grid to the mesh.

        Returns
        -------
        The new features of the grid and of the mesh.
        """
        graph = as_graph(graph)
        efeat = self.edge_mlp(g2m_efeat, (grid_nfeat, mesh_nfeat), graph)
        entering = aggregate(efeat, graph.target, self.aggregation)
        mesh_nfeat = mesh_nfeat + self.dst_node_mlp(entering, mesh_nfeat)
        return grid_nfeat + self.src_node_mlp(grid_nfeat), mesh_nfeat
