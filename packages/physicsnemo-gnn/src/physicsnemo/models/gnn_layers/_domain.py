# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides message passing over ranks.

Layers take a ``physicsnemo.distributed.Part`` in place of a graph. It has all edges that lead to
the rank's nodes, so what a rank lacks are the features of other ranks' nodes where edges begin, the
halo. The entry-point group ``physicsnemo.domain`` names this module.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from physicsnemo.models.gnn_layers.bsms import (
    EPSILON,
    GraphMessagePassing,
    Hierarchy,
    Scale,
    convolve,
    fiber,
)
from physicsnemo.models.gnn_layers.mesh_edge_block import MeshEdgeBlock
from physicsnemo.models.gnn_layers.mesh_graph_decoder import MeshGraphDecoder
from physicsnemo.models.gnn_layers.mesh_graph_encoder import MeshGraphEncoder
from physicsnemo.models.gnn_layers.mesh_node_block import MeshNodeBlock
from physicsnemo.models.gnn_layers.messages import aggregate, gather
from physicsnemo.models.gnn_layers.processor import EdgeMessageBlock


def edge_block(module: MeshEdgeBlock, domain: Any) -> Any:
    """Return the forward of a block of edges, which fetches the nodes where they begin."""
    whole = module.forward

    def forward(efeat: Tensor, nfeat: Tensor, graph: Any) -> tuple[Tensor, Tensor]:
        efeat, _ = whole(efeat, (graph.with_halo(nfeat), nfeat), graph.graph)
        return efeat, nfeat

    return forward


def message_block(module: EdgeMessageBlock, domain: Any) -> Any:
    """Return the forward of a block of edges whose messages are something else."""
    whole = module.forward

    def forward(efeat: Tensor, nfeat: Tensor, graph: Any) -> tuple[Tensor, Tensor]:
        return whole(efeat, (graph.with_halo(nfeat), nfeat), graph.graph)

    return forward


def node_block(module: MeshNodeBlock, domain: Any) -> Any:
    """Return the forward of a block of nodes, which have all their edges on one rank."""
    whole = module.forward

    def forward(efeat: Tensor, nfeat: Tensor, graph: Any) -> tuple[Tensor, Tensor]:
        return whole(efeat, nfeat, graph.graph)

    return forward


def encoder(module: MeshGraphEncoder, domain: Any) -> Any:
    """Return the forward of an encoder, which fetches the grid points where edges begin."""
    whole = module.forward

    def forward(
        g2m_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: Any
    ) -> tuple[Tensor, Tensor]:
        points = graph.with_halo(grid_nfeat)
        updated, mesh_nfeat = whole(g2m_efeat, points, mesh_nfeat, graph.graph)
        return updated[: len(grid_nfeat)], mesh_nfeat

    return forward


def decoder(module: MeshGraphDecoder, domain: Any) -> Any:
    """Return the forward of a decoder, which fetches the vertices where edges begin."""
    whole = module.forward

    def forward(m2g_efeat: Tensor, grid_nfeat: Tensor, mesh_nfeat: Tensor, graph: Any) -> Tensor:
        return whole(m2g_efeat, grid_nfeat, graph.with_halo(mesh_nfeat), graph.graph)

    return forward


def scale_step(module: GraphMessagePassing, domain: Any) -> Any:
    """Return the forward of a step on one level of a hierarchy of parts."""

    def forward(x: Tensor, scale: Scale) -> Tensor:
        part: Any = scale.graph
        ends = part.with_halo(x), x
        messages = module.mlp_edge(scale.fiber.to(x.dtype), ends, part.graph)
        update: Tensor = module.mlp_node(x, aggregate(messages, part.graph.target))
        return update + x

    return forward


class PartPassage(NamedTuple):
    """A rank's part of a :class:`~physicsnemo.models.gnn_layers.bsms.Passage`.

    Parameters
    ----------
    part
        The part of the finer graph.
    weight
        Edge weights, of shape (edges,).
    ids
        Which of the rank's own nodes the coarser graph keeps.
    """

    part: Any
    weight: Tensor
    ids: Tensor

    def down(self, h: Tensor) -> Tensor:
        """Pool, from the halo too."""
        graph = self.part.graph
        sources = self.part.with_halo(h)
        return convolve(sources, self.weight, start=graph.source, end=graph.target)[self.ids]

    def up(self, h: Tensor) -> Tensor:
        """Unpool, into the halo too."""
        graph = self.part.graph
        padded = h.new_zeros(graph.num_targets, h.shape[1]).index_copy(0, self.ids, h)
        sums = convolve(padded, self.weight, start=graph.target, end=graph.source)
        up: Tensor = self.part.add_halo(sums)
        return up


def make_part_hierarchy(pos: Tensor, parts: Sequence[Any], ids: Sequence[Tensor]) -> Hierarchy:
    """Compute what :func:`~physicsnemo.models.gnn_layers.bsms.make_hierarchy` does, for parts.

    Parameters
    ----------
    pos
        Positions of the rank's own nodes of the finest graph, of shape (nodes, dimensions).
    parts
        Parts of the graphs, the finest first.
    ids
        For each part but the last, which of the rank's own nodes the next one keeps.
    """
    scales, passages = [_scale(pos, parts[0])], []
    mass = torch.ones_like(pos[:, 0])
    for finer, coarser, kept in zip(parts, parts[1:], ids, strict=False):
        source, target = finer.graph.source, finer.graph.target
        degrees = finer.add_halo(source.degrees)  # edges that leave a node lead to several ranks
        sent = gather(finer.with_halo(mass / degrees.clamp(min=1)), source)
        mass = aggregate(sent, target) + EPSILON
        passage = PartPassage(finer, sent / gather(mass, target), kept)
        mass, pos = mass[kept], passage.down(pos)
        passages.append(passage)
        scales.append(_scale(pos, coarser))
    return Hierarchy(scales, passages)  # type: ignore[arg-type]


def _scale(pos: Tensor, part: Any) -> Scale:
    return Scale(part, fiber((part.with_halo(pos), pos), part.graph))


MODELS: dict[type, Any] = {}
RULES = {
    EdgeMessageBlock: message_block,
    GraphMessagePassing: scale_step,
    MeshEdgeBlock: edge_block,
    MeshGraphDecoder: decoder,
    MeshGraphEncoder: encoder,
    MeshNodeBlock: node_block,
}
