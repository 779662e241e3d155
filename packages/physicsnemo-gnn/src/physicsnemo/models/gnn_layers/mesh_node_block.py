# SPDX-License-Identifier: Apache-2.0
"""A step of message passing for the nodes."""

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike, as_graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphMLP
from physicsnemo.models.gnn_layers.messages import aggregate, check_aggregation

__all__ = ["MeshNodeBlock"]


class MeshNodeBlock(nn.Module):
    """Add to the features of each node a perceptron of them and of those of the edges that enter.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the features of the edges that end at a node.
    input_dim_nodes, input_dim_edges
        Number of features of the nodes and of the edges.
    output_dim
        Number of features that the perceptron returns, the same as ``input_dim_nodes``.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`MeshGraphMLP`.

    Raises
    ------
    ValueError
        If there is no such aggregation.

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
            output_dim,
            hidden_dim,
            hidden_layers,
            activation_fn,
            norm_type,
            recompute_activation,
        )

    def forward(self, efeat: Tensor, nfeat: Tensor, graph: GraphLike) -> tuple[Tensor, Tensor]:
        """Update the features of the nodes.

        Parameters
        ----------
        efeat
            Features of the edges, of shape (edges, input_dim_edges).
        nfeat
            Features of the nodes, of shape (nodes, input_dim_nodes).
        graph
            The graph.

        Returns
        -------
        The features of the edges as they are, and the new ones of the nodes.
        """
        entering = aggregate(efeat, as_graph(graph).target, self.aggregation)
        return efeat, self.node_mlp(entering, nfeat) + nfeat
