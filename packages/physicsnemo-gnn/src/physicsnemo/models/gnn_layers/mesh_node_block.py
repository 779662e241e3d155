# SPDX-License-Identifier: Apache-2.0
"""Node update of a message-passing step."""

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphMLP
from physicsnemo.models.gnn_layers.messages import aggregate, check_aggregation

__all__ = ["MeshNodeBlock"]


class MeshNodeBlock(nn.Module):
    """Node update: node features plus an MLP of them and of the aggregated incoming edges.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the features of a node's incoming edges.
    input_dim_nodes, input_dim_edges
        Number of node features and of edge features.
    output_dim
        Number of outputs of the MLP, equal to ``input_dim_nodes``.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.

    Raises
    ------
    ValueError
        If the aggregation is unknown.

    References
    ----------
    Pfaff et al. 2021, arXiv:2010.03409, eq. (1).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph, MeshNodeBlock
    >>> graph = Graph(torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    >>> block = MeshNodeBlock("mean", 4, 5, output_dim=4, hidden_dim=8)
    >>> efeat, nfeat = block(torch.zeros(2, 5), torch.zeros(3, 4), graph)
    >>> nfeat.shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        aggregation: str = "sum",
        input_dim_nodes: int = 512,
        input_dim_edges: int = 512,
        output_dim: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int = 1,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        check_aggregation(aggregation)
        self.aggregation = aggregation
        self.node_mlp = MeshGraphMLP(
            input_dim_edges + input_dim_nodes,
            output_dim=output_dim,
            hidden_dim=hidden_dim,
            hidden_layers=hidden_layers,
            activation_fn=activation_fn,
            norm_type=norm_type,
            recompute_activation=recompute_activation,
        )

    def forward(self, efeat: Tensor, nfeat: Tensor, graph: GraphLike) -> tuple[Tensor, Tensor]:
        """Update the node features.

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
        The edge features unchanged, and the updated node features.
        """
        incoming = aggregate(efeat, as_graph(graph).target, self.aggregation)
        return efeat, self.node_mlp(incoming, nfeat, adds=True)
