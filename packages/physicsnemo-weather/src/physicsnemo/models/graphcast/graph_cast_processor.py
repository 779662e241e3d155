# SPDX-License-Identifier: Apache-2.0
"""What works on the mesh: messages along its edges, or attention among its vertices."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers import Graph, GraphLike, MeshNodeBlock, as_graph
from physicsnemo.models.gnn_layers.mesh_graph_mlp import edge_perceptron
from physicsnemo.models.graphcast._transformer import TransformerLayer
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.numerics import PAPER, check_numerics

__all__ = ["GraphCastProcessor", "GraphCastProcessorGraphTransformer"]


class GraphCastProcessor(nn.Module):
    """Blocks that update the edges and blocks that update the nodes, by turns.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the features of the edges that end at a node.
    processor_layers
        Number of blocks of each kind.
    input_dim_nodes, input_dim_edges
        Number of features of nodes and edges.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`physicsnemo.models.gnn_layers.MeshGraphMLP`.
    do_concat_trick
        As in :class:`physicsnemo.models.gnn_layers.MeshEdgeBlock`.
    numerics
        ``paper``: vertices get what the perceptrons of the edges return, and both are added to
        what they were afterwards. ``reference-1.2`` or ``reference-2.1``: vertices get the features
        of the edges after the addition, as in nvidia-physicsnemo and in
        :class:`~physicsnemo.models.meshgraphnet.MeshGraphNet`.

    Raises
    ------
    ValueError
        If there is no such aggregation, or no such numerics.

    References
    ----------
    Lam et al. 2023, arXiv:2212.12794, section 3.6 of the supplement.
    """

    def __init__(
        self,
        aggregation: str = "sum",
        processor_layers: int = 16,
        input_dim_nodes: int = 512,
        input_dim_edges: int = 512,
        hidden_dim: int = 512,
        hidden_layers: int = 1,
        activation_fn: str | nn.Module = "silu",
        norm_type: str | None = "LayerNorm",
        do_concat_trick: bool = False,
        recompute_activation: bool = False,
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        check_numerics(numerics)
        self.processor_layers = nn.ModuleList()
        for _ in range(processor_layers):
            edge_block = EdgeBlock(
                edge_perceptron(
                    do_concat_trick,
                    input_dim_edges,
                    input_dim_nodes,
                    input_dim_nodes,
                    input_dim_edges,
                    hidden_dim,
                    hidden_layers,
                    activation_fn,
                    norm_type,
                    recompute_activation=recompute_activation,
                ),
                sends_sum=numerics != PAPER,
            )
            node_block = MeshNodeBlock(
                aggregation,
                input_dim_nodes,
                input_dim_edges,
                input_dim_nodes,
                hidden_dim,
                hidden_layers,
                activation_fn,
                norm_type,
                recompute_activation,
            )
            self.processor_layers.extend([edge_block, node_block])
        self.set_checkpoint_segments(0)

    def set_checkpoint_segments(self, checkpoint_segments: int) -> None:
        """Divide the blocks into segments whose insides are computed again; 0 or -1 for none."""
        self._bounds = segment_bounds(len(self.processor_layers), checkpoint_segments)

    def forward(self, efeat: Tensor, nfeat: Tensor, graph: GraphLike) -> tuple[Tensor, Tensor]:
        """Apply all blocks.

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
        The new features of the edges and of the nodes.
        """
        graph, really = as_graph(graph), bool(self._bounds)
        state = (efeat, efeat, nfeat)  # what edges are, what they send, and what vertices are
        for start, end in pairwise(self._bounds or (0, len(self.processor_layers))):
            state = maybe_checkpoint(self._apply_blocks, really, *state, graph, start, end)
        return state[0], state[2]

    def _apply_blocks(
        self, efeat: Tensor, messages: Tensor, nfeat: Tensor, graph: Graph, start: int, end: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        for block in self.processor_layers[start:end]:
            if isinstance(block, EdgeBlock):
                efeat, messages = block(efeat, nfeat, graph)
            else:
                _, nfeat = block(messages, nfeat, graph)
                messages = efeat  # nobody reads them any more, and a segment may end here
        return efeat, messages, nfeat


class EdgeBlock(nn.Module):
    """A step of message passing for the edges, which tells what they are and what they send.

    Parameters
    ----------
    edge_mlp
        The perceptron.
    sends_sum
        Whether edges send what they are afterwards, or what the perceptron returns.
    """

    def __init__(self, edge_mlp: nn.Module, sends_sum: bool) -> None:
        super().__init__()
        self.edge_mlp = edge_mlp
        self._sends_sum = sends_sum

    def forward(self, efeat: Tensor, nfeat: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Return the new features of the edges, and what they send to the vertices."""
        update = self.edge_mlp(efeat, nfeat, graph)
        efeat = efeat + update
        return efeat, efeat if self._sends_sum else update


class GraphCastProcessorGraphTransformer(nn.Module):
    """Layers of attention among the vertices of the mesh.

    Where not all vertices see each other, the pairs that do are held as a matrix of one byte a
    pair, which attention also makes numbers of.

    Parameters
    ----------
    attention_mask
        True for pairs of vertices that see each other, of shape (vertices, vertices); None for
        all.
    num_attention_heads
        Number of heads; it must divide ``hidden_dim``.
    processor_layers
        Number of layers.
    hidden_dim
        Number of features of each vertex.

    Raises
    ------
    ValueError
        If the heads do not divide the features.

    References
    ----------
    Price et al. 2023, GenCast, arXiv:2312.15796.
    """

    mask: Tensor | None

    def __init__(
        self,
        attention_mask: Tensor | None,
        num_attention_heads: int = 4,
        processor_layers: int = 16,
        hidden_dim: int = 512,
    ) -> None:
        super().__init__()
        if num_attention_heads < 1 or hidden_dim % num_attention_heads:
            raise ValueError(
                f"expected num_attention_heads that divide hidden_dim={hidden_dim}, got "
                f"{num_attention_heads}"
            )
        if attention_mask is not None:
            attention_mask = attention_mask.to(torch.get_default_device())
        self.register_buffer("mask", attention_mask, persistent=False)
        self.processor_layers = nn.ModuleList(
            TransformerLayer(hidden_dim, num_attention_heads) for _ in range(processor_layers)
        )
        self.set_checkpoint_segments(0)

    def set_checkpoint_segments(self, checkpoint_segments: int) -> None:
        """Divide the layers into segments whose insides are computed again; 0 or -1 for none."""
        self._bounds = segment_bounds(len(self.processor_layers), checkpoint_segments)

    def forward(self, nfeat: Tensor) -> Tensor:
        """Update features of shape (vertices, hidden_dim)."""
        really = bool(self._bounds)
        for start, end in pairwise(self._bounds or (0, len(self.processor_layers))):
            nfeat = maybe_checkpoint(
                self._apply_layers, really, nfeat, start, end, preserve_rng_state=self.training
            )
        return nfeat

    def _apply_layers(self, nfeat: Tensor, start: int, end: int) -> Tensor:
        for layer in self.processor_layers[start:end]:
            nfeat = layer(nfeat, self.mask)
        return nfeat


def segment_bounds(count: int, segments: int) -> tuple[int, ...]:
    """Return where segments of equal size begin and end; nothing for no segments."""
    if segments <= 0:
        return ()
    if count % segments:
        raise ValueError(
            f"expected a number of checkpoint segments that divides the {count} blocks of the "
            f"processor, or 0 for none, got {segments}"
        )
    return tuple(range(0, count + 1, count // segments))
