# SPDX-License-Identifier: Apache-2.0
"""Edge update of a message-passing step."""

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike
from physicsnemo.models.gnn_layers.mesh_graph_mlp import NodeFeatures, edge_mlp

__all__ = ["MeshEdgeBlock"]


class MeshEdgeBlock(nn.Module):
    """Edge update: edge features plus an MLP of them and of the features of both nodes.

    Parameters
    ----------
    input_dim_nodes, input_dim_edges
        Number of node features and of edge features.
    output_dim
        Number of outputs of the MLP, equal to ``input_dim_edges``.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.
    do_concat_trick
        Name the weights of the first layer as :class:`MeshGraphEdgeMLPSum` does; the computation is
        the same.

    References
    ----------
    Pfaff et al. 2021, arXiv:2010.03409, eq. (1).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph, MeshEdgeBlock
    >>> graph = Graph(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    >>> block = MeshEdgeBlock(4, 5, output_dim=5, hidden_dim=8)
    >>> efeat, nfeat = block(torch.zeros(2, 5), torch.zeros(3, 4), graph)
    >>> efeat.shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        input_dim_nodes: int = 512,
        input_dim_edges: int = 512,
        output_dim: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int = 1,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        do_concat_trick: bool = False,
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        self.edge_mlp = edge_mlp(
            do_concat_trick=do_concat_trick,
            efeat_dim=input_dim_edges,
            src_dim=input_dim_nodes,
            dst_dim=input_dim_nodes,
            output_dim=output_dim,
            hidden_dim=hidden_dim,
            hidden_layers=hidden_layers,
            activation_fn=activation_fn,
            norm_type=norm_type,
            recompute_activation=recompute_activation,
        )

    def forward(
        self, efeat: Tensor, nfeat: NodeFeatures, graph: GraphLike
    ) -> tuple[Tensor, NodeFeatures]:
        """Update the edge features.

        Parameters
        ----------
        efeat
            Edge features, of shape (edges, input_dim_edges).
        nfeat
            Node features, of shape (nodes, input_dim_nodes).
        graph
            The graph.

        Returns
        -------
        The updated edge features, and the node features unchanged.
        """
        return self.edge_mlp(efeat, nfeat, graph, adds=True), nfeat
