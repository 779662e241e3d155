# SPDX-License-Identifier: Apache-2.0
"""Bi-stride multi-scale message passing: a U-Net of graphs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers.graph import Graph, Incidence
from physicsnemo.models.gnn_layers.mesh_graph_mlp import (
    MeshGraphEdgeMLPConcat,
    MeshGraphMLP,
    NodeFeatures,
)
from physicsnemo.models.gnn_layers.messages import aggregate, gather

__all__ = ["BistrideGraphMessagePassing", "GraphMessagePassing", "Hierarchy", "make_hierarchy"]

# Keeps nodes without incoming edges from a division by zero.
EPSILON = 1e-12


class Scale(NamedTuple):
    """A level of the U-Net: a graph and the relative positions along its edges.

    Parameters
    ----------
    graph
        The graph.
    fiber
        Displacement of each edge's source from its target, and its length, of shape
        (edges, dimensions + 1).
    """

    graph: Graph
    fiber: Tensor


class Passage(NamedTuple):
    """Non-parametrized transition between a level and the next coarser one.

    Parameters
    ----------
    graph
        The finer graph.
    weight
        Edge weights, which sum to 1 over the incoming edges of a node, of shape (edges,).
    ids
        Indices of the nodes that the coarser graph keeps, of shape (kept nodes,).
    """

    graph: Graph
    weight: Tensor
    ids: Tensor

    def down(self, h: Tensor) -> Tensor:
        """Pool: average features over incoming edges, then keep the coarser graph's nodes."""
        graph = self.graph
        return convolve(h, self.weight, start=graph.source, end=graph.target)[self.ids]

    def up(self, h: Tensor) -> Tensor:
        """Unpool, as the transpose of :meth:`down`: zeros at other nodes, then edges reversed."""
        graph = self.graph
        padded = h.new_zeros(graph.num_nodes, h.shape[1]).index_copy(0, self.ids, h)
        return convolve(padded, self.weight, start=graph.target, end=graph.source)


class Hierarchy(NamedTuple):
    """Levels, the finest first, and the transitions between them; see :func:`make_hierarchy`."""

    scales: list[Scale]
    passages: list[Passage]


def make_hierarchy(pos: Tensor, graphs: Sequence[Graph], ids: Sequence[Tensor]) -> Hierarchy:
    """Compute the edge weights and positions for :class:`BistrideGraphMessagePassing`.

    Each node starts with mass 1 and distributes it evenly over its outgoing edges; what arrives is
    its mass on the next level. Positions are pooled as features are: a coarser node lies at the
    mean of its neighbors, weighted by the mass that came from them.

    Parameters
    ----------
    pos
        Node positions of the finest graph, of shape (nodes, dimensions).
    graphs
        The graphs, the finest first.
    ids
        For each graph but the last, indices of the nodes that the next one keeps.

    References
    ----------
    Cao et al. 2023, arXiv:2210.02573, section 3.2.
    """
    scales, passages = [Scale(graphs[0], fiber(pos, graphs[0]))], []
    mass = torch.ones_like(pos[:, 0])
    for finer, coarser, kept in zip(graphs, graphs[1:], ids, strict=False):
        sent = gather(mass / finer.source.degrees.clamp(min=1), finer.source)
        mass = aggregate(sent, finer.target) + EPSILON
        # The share of a node's new mass that came along each edge: weights sum to 1 over them.
        passage = Passage(finer, sent / gather(mass, finer.target), kept)
        mass, pos = mass[kept], passage.down(pos)
        passages.append(passage)
        scales.append(Scale(coarser, fiber(pos, coarser)))
    return Hierarchy(scales, passages)


class BistrideGraphMessagePassing(nn.Module):
    """U-Net of graphs: message-passing steps from fine to coarse levels and back.

    Each level takes a step on the way down and one on the way up, with a skip connection between
    them. Features are pooled and unpooled by fixed edge weights; see :class:`Passage`.

    Parameters
    ----------
    unet_depth
        Number of coarser graphs.
    latent_dim
        Number of node features.
    hidden_layer
        Number of hidden layers of the MLPs.
    pos_dim
        Number of spatial dimensions.
    recompute_activation
        Activation checkpointing of every MLP.

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

        def step() -> GraphMessagePassing:
            return GraphMessagePassing(
                latent_dim=latent_dim,
                hidden_layer=hidden_layer,
                pos_dim=pos_dim,
                recompute_activation=recompute_activation,
            )

        self.bottom_gmp = step()
        self.down_gmps = nn.ModuleList(step() for _ in range(unet_depth))
        # From the coarsest to the finest, as they are applied.
        self.up_gmps = nn.ModuleList(step() for _ in range(unet_depth))

    def forward(self, h: Tensor, hierarchy: Hierarchy) -> Tensor:
        """Apply the U-Net.

        Parameters
        ----------
        h
            Node features of the finest graph, of shape (nodes, latent_dim).
        hierarchy
            ``unet_depth + 1`` graphs, by :func:`make_hierarchy`.

        Returns
        -------
        Node features of the same shape.
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
    """Message-passing step whose edge features are relative positions.

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
            output_dim=latent_dim,
            hidden_dim=latent_dim,
            hidden_layers=hidden_layer,
            recompute_activation=recompute_activation,
        )
        self.mlp_edge = MeshGraphEdgeMLPConcat(
            efeat_dim=pos_dim + 1,
            src_dim=latent_dim,
            dst_dim=latent_dim,
            output_dim=latent_dim,
            hidden_dim=latent_dim,
            hidden_layers=hidden_layer,
            recompute_activation=recompute_activation,
        )

    def forward(self, x: Tensor, scale: Scale) -> Tensor:
        """Update node features of shape (nodes, latent_dim)."""
        messages = self.mlp_edge(scale.fiber.to(x.dtype), x, scale.graph)
        update: Tensor = self.mlp_node(x, aggregate(messages, scale.graph.target))
        return update + x


def fiber(pos: NodeFeatures, graph: Graph) -> Tensor:
    """Return the displacement of each edge's source from its target, and its length."""
    sources, targets = pos if isinstance(pos, tuple) else (pos, pos)
    vector = gather(sources, graph.source) - gather(targets, graph.target)
    # The norm has no second derivative at 0, which is NaN in gradients even where it is masked
    # afterwards: so self-loops take the norm of another vector, and then the length 0.
    apart = (vector != 0).any(-1, keepdim=True)
    length = torch.linalg.vector_norm(torch.where(apart, vector, 1.0), dim=-1, keepdim=True)
    return torch.cat((vector, torch.where(apart, length, 0.0)), dim=-1)


def convolve(x: Tensor, weight: Tensor, *, start: Incidence, end: Incidence) -> Tensor:
    """Graph convolution by fixed edge weights."""
    return aggregate(gather(x, start) * weight[:, None].to(x.dtype), end)
