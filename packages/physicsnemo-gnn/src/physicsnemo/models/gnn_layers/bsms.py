# SPDX-License-Identifier: Apache-2.0
"""Message passing on graphs of several scales, in the shape of a U."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers.graph import Graph, Incidence
from physicsnemo.models.gnn_layers.mesh_graph_mlp import MeshGraphEdgeMLPConcat, MeshGraphMLP
from physicsnemo.models.gnn_layers.messages import aggregate, gather

__all__ = ["BistrideGraphMessagePassing", "GraphMessagePassing", "Hierarchy", "make_hierarchy"]

# Keeps a node that nothing reaches from dividing by zero.
_NOTHING = 1e-12


class Scale(NamedTuple):
    """One of the graphs.

    Parameters
    ----------
    graph
        The graph.
    fiber
        Vector from the target to the source of each edge and its length, of shape
        (edges, dimensions + 1).
    """

    graph: Graph
    fiber: Tensor


class Passage(NamedTuple):
    """The way from one of the graphs to the next.

    Parameters
    ----------
    graph
        The finer one.
    weight
        What part of the features at an edge's target comes along this edge, of shape (edges,).
    ids
        The nodes that make up the coarser one, of shape (nodes of the coarser,).
    """

    graph: Graph
    weight: Tensor
    ids: Tensor

    def down(self, h: Tensor) -> Tensor:
        """Return features of the coarser graph."""
        return _convolve(h, self.weight, self.graph.source, self.graph.target)[self.ids]

    def up(self, h: Tensor) -> Tensor:
        """Return features of the finer graph."""
        spread = h.new_zeros(self.graph.num_nodes, h.shape[1]).index_copy(0, self.ids, h)
        return _convolve(spread, self.weight, self.graph.target, self.graph.source)


class Hierarchy(NamedTuple):
    """All graphs, the finest first, and the passages between them; see :func:`make_hierarchy`."""

    scales: list[Scale]
    passages: list[Passage]


def make_hierarchy(pos: Tensor, graphs: Sequence[Graph], ids: Sequence[Tensor]) -> Hierarchy:
    """Prepare graphs for :class:`BistrideGraphMessagePassing`.

    Every node starts with the mass 1, which it divides among its edges; masses that arrive are the
    next masses. Positions move as features do: a coarser node is where its neighbours are on
    average, weighted by the masses that came from them.

    Parameters
    ----------
    pos
        Positions of the nodes of the finest graph, of shape (nodes, dimensions).
    graphs
        The graphs, the finest first.
    ids
        The nodes of each graph but the last that make up the next.

    References
    ----------
    Cao et al. 2023, arXiv:2210.02573, section 3.2.
    """
    scales, passages = [Scale(graphs[0], _fiber(pos, graphs[0]))], []
    mass = torch.ones_like(pos[:, 0])
    for finer, coarser, kept in zip(graphs, graphs[1:], ids, strict=False):
        sent = gather(mass / finer.source.degrees.clamp(min=1), finer.source)
        mass = aggregate(sent, finer.target) + _NOTHING
        passage = Passage(finer, sent / gather(mass, finer.target), kept)
        mass, pos = mass[kept], passage.down(pos)
        passages.append(passage)
        scales.append(Scale(coarser, _fiber(pos, coarser)))
    return Hierarchy(scales, passages)


class BistrideGraphMessagePassing(nn.Module):
    """A U-net of graphs: steps of message passing from fine to coarse and back.

    On the way down, features flow to the neighbours by the weights of the edges before some of the
    nodes are kept; on the way up, they flow back by the same weights from the kept ones. At each
    scale, the features from the way down are added.

    Parameters
    ----------
    unet_depth
        Number of graphs besides the finest.
    latent_dim
        Number of features of each node.
    hidden_layer
        Number of hidden layers of the perceptrons.
    pos_dim
        Number of dimensions of the positions.
    recompute_activation
        Keep of every perceptron only its input for the backward pass, and compute the rest again.

    References
    ----------
    Cao et al. 2023, arXiv:2210.02573, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph
    >>> from physicsnemo.models.gnn_layers.bsms import BistrideGraphMessagePassing, make_hierarchy
    >>> pair = Graph(torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
    >>> one = Graph(torch.empty(2, 0, dtype=torch.long), num_nodes=1)
    >>> graphs = make_hierarchy(torch.rand(2, 3), [pair, one], ids=[torch.tensor([0])])
    >>> unet = BistrideGraphMessagePassing(unet_depth=1, latent_dim=8, hidden_layer=2, pos_dim=3)
    >>> unet(torch.zeros(2, 8), graphs).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        unet_depth: int,
        latent_dim: int,
        hidden_layer: int,
        pos_dim: int,
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        shape = (latent_dim, hidden_layer, pos_dim, recompute_activation)
        self.bottom_gmp = GraphMessagePassing(*shape)
        self.down_gmps = nn.ModuleList(GraphMessagePassing(*shape) for _ in range(unet_depth))
        # From the coarsest to the finest, as they are applied.
        self.up_gmps = nn.ModuleList(GraphMessagePassing(*shape) for _ in range(unet_depth))

    def forward(self, h: Tensor, hierarchy: Hierarchy) -> Tensor:
        """Apply the U-net.

        Parameters
        ----------
        h
            Features of the finest graph, of shape (nodes, latent_dim).
        hierarchy
            ``unet_depth + 1`` graphs, by :func:`make_hierarchy`.

        Returns
        -------
        Features of that shape.
        """
        *finer, coarsest = hierarchy.scales
        passages, skips = hierarchy.passages, []
        for step, scale, passage in zip(self.down_gmps, finer, passages, strict=True):
            h = step(h, scale)
            skips.append(h)
            h = passage.down(h)
        h = self.bottom_gmp(h, coarsest)
        upward = zip(finer[::-1], passages[::-1], skips[::-1], strict=True)
        for step, (scale, passage, skip) in zip(self.up_gmps, upward, strict=True):
            h = step(passage.up(h), scale) + skip
        return h


class GraphMessagePassing(nn.Module):
    """A step of message passing that knows where the nodes are.

    Parameters
    ----------
    latent_dim, hidden_layer, pos_dim, recompute_activation
        As in :class:`BistrideGraphMessagePassing`.
    """

    def __init__(
        self, latent_dim: int, hidden_layer: int, pos_dim: int, recompute_activation: bool = False
    ) -> None:
        super().__init__()
        self.mlp_node = MeshGraphMLP(
            2 * latent_dim,
            latent_dim,
            latent_dim,
            hidden_layer,
            recompute_activation=recompute_activation,
        )
        self.mlp_edge = MeshGraphEdgeMLPConcat(
            pos_dim + 1,
            latent_dim,
            latent_dim,
            latent_dim,
            latent_dim,
            hidden_layer,
            recompute_activation=recompute_activation,
        )

    def forward(self, x: Tensor, scale: Scale) -> Tensor:
        """Update features of the nodes, of shape (nodes, latent_dim)."""
        messages = self.mlp_edge(scale.fiber.to(x.dtype), x, scale.graph)
        update: Tensor = self.mlp_node(x, aggregate(messages, scale.graph.target))
        return update + x


def _fiber(pos: Tensor, graph: Graph) -> Tensor:
    vector = gather(pos, graph.source) - gather(pos, graph.target)
    # Of an edge from a node to itself, whose length has no second derivative, another is taken.
    apart = (vector != 0).any(-1, keepdim=True)
    length = torch.linalg.vector_norm(torch.where(apart, vector, 1.0), dim=-1, keepdim=True)
    return torch.cat((vector, torch.where(apart, length, 0.0)), dim=-1)


def _convolve(x: Tensor, weight: Tensor, start: Incidence, end: Incidence) -> Tensor:
    """Send features along the edges, each by its weight."""
    return aggregate(gather(x, start) * weight[:, None].to(x.dtype), end)
