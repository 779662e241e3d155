# SPDX-License-Identifier: Apache-2.0
"""Message-passing steps, as the processors of MeshGraphNet and GraphCast take them."""

from itertools import pairwise

from torch import Tensor, nn

from physicsnemo.models.gnn_layers.adapters import GraphLike
from physicsnemo.models.gnn_layers.graph import Graph
from physicsnemo.models.gnn_layers.mesh_edge_block import MeshEdgeBlock
from physicsnemo.models.gnn_layers.mesh_graph_mlp import NodeFeatures
from physicsnemo.models.gnn_layers.mesh_node_block import MeshNodeBlock
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.checks import is_integer

__all__ = ["EdgeMessageBlock", "message_passing_blocks", "pass_messages", "segment_bounds"]


class EdgeMessageBlock(MeshEdgeBlock):
    """Edge update whose messages to the nodes are the outputs of its MLP, as in GraphCast.

    Those of a :class:`MeshEdgeBlock`, as in MeshGraphNet, are the updated edge features.
    """

    def forward(
        self, efeat: Tensor, nfeat: NodeFeatures, graph: GraphLike
    ) -> tuple[Tensor, Tensor]:
        """Return the updated edge features, and the messages."""
        update = self.edge_mlp(efeat, nfeat, graph)
        return efeat + update, update


def message_passing_blocks(
    num_steps: int,
    *,
    edge_block: type[MeshEdgeBlock] = MeshEdgeBlock,
    input_dim_nodes: int,
    input_dim_edges: int,
    hidden_dim: int,
    hidden_layers_nodes: int,
    hidden_layers_edges: int,
    aggregation: str,
    activation_fn: str | nn.Module,
    norm_type: str | None,
    do_concat_trick: bool,
    recompute_activation: bool,
) -> nn.ModuleList:
    """Return an edge block and a :class:`MeshNodeBlock` for each step, in turns.

    Parameters
    ----------
    num_steps
        Number of message-passing steps.
    edge_block
        Class of the edge blocks, which decides what the messages are.
    input_dim_nodes, input_dim_edges
        Number of node features and of edge features.
    hidden_dim
        Width of the hidden layers of all MLPs.
    hidden_layers_nodes, hidden_layers_edges
        Number of hidden layers of the node MLPs and of the edge MLPs.
    aggregation, activation_fn, norm_type, do_concat_trick, recompute_activation
        As in the blocks.
    """
    blocks = nn.ModuleList()
    for _ in range(num_steps):
        edges = edge_block(
            input_dim_nodes=input_dim_nodes,
            input_dim_edges=input_dim_edges,
            output_dim=input_dim_edges,
            hidden_dim=hidden_dim,
            hidden_layers=hidden_layers_edges,
            activation_fn=activation_fn,
            norm_type=norm_type,
            do_concat_trick=do_concat_trick,
            recompute_activation=recompute_activation,
        )
        nodes = MeshNodeBlock(
            aggregation,
            input_dim_nodes=input_dim_nodes,
            input_dim_edges=input_dim_edges,
            output_dim=input_dim_nodes,
            hidden_dim=hidden_dim,
            hidden_layers=hidden_layers_nodes,
            activation_fn=activation_fn,
            norm_type=norm_type,
            recompute_activation=recompute_activation,
        )
        blocks.extend([edges, nodes])
    return blocks


def pass_messages(
    blocks: nn.ModuleList,
    *,
    efeat: Tensor,
    nfeat: Tensor,
    graph: Graph,
    segments: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    """Apply message-passing blocks.

    Parameters
    ----------
    blocks
        Edge and node blocks in turns, by :func:`message_passing_blocks`.
    efeat
        Edge features, of shape (edges, input_dim_edges).
    nfeat
        Node features, of shape (nodes, input_dim_nodes).
    graph
        The graph.
    segments
        Bounds of the segments for activation checkpointing, by :func:`segment_bounds`; empty for
        no checkpointing.

    Returns
    -------
    The updated edge features and node features.
    """

    def apply(
        start: int, end: int, efeat: Tensor, nfeat: Tensor, messages: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        for block in blocks[start:end]:
            # Blocks are called as modules, so that hooks on them run, those of FSDP too.
            if isinstance(block, MeshNodeBlock):
                _, nfeat = block(efeat if messages is None else messages, nfeat, graph)
                messages = None
            elif isinstance(block, EdgeMessageBlock):
                efeat, messages = block(efeat, nfeat, graph)
            else:
                efeat, _ = block(efeat, nfeat, graph)
        return efeat, nfeat, messages

    # A segment may end between an edge block and its node block, so messages are part of the state;
    # but only if they are no edge features, which checkpointing would keep twice.
    messages: Tensor | None = None
    for start, end in pairwise(segments or (0, len(blocks))):
        efeat, nfeat, messages = maybe_checkpoint(
            apply, bool(segments), start, end, efeat, nfeat, messages
        )
    return efeat, nfeat


def segment_bounds(count: int, segments: int, blocks: str = "blocks") -> tuple[int, ...]:
    """Return the bounds of equal segments for activation checkpointing; empty for 0 segments.

    Parameters
    ----------
    count
        Number of blocks.
    segments
        Number of segments, which divides it.
    blocks
        What the blocks are called in the error.

    Raises
    ------
    ValueError
        If the number of segments is negative or does not divide the number of blocks.
    """
    if not is_integer(segments) or segments < 0 or (segments and count % segments):
        raise ValueError(
            f"expected a number of checkpoint segments that divides the {count} {blocks}, or 0 for "
            f"none, got {segments}"
        )
    return tuple(range(0, count + 1, count // segments)) if segments else ()
