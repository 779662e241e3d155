# SPDX-License-Identifier: Apache-2.0
"""The steps of message passing of MeshGraphNet."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu

from physicsnemo.models.gnn_layers import Graph, GraphLike, MeshEdgeBlock, MeshNodeBlock, as_graph
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.checks import check_at_least, is_integer

__all__ = ["MeshGraphNetProcessor"]


class MeshGraphNetProcessor(nn.Module):
    """Blocks that update the edges and blocks that update the nodes, by turns.

    Parameters
    ----------
    processor_size
        Number of blocks of each kind.
    input_dim_node, input_dim_edge
        Number of features of nodes and edges, the same number.
    num_layers_node, num_layers_edge
        Number of hidden layers of their perceptrons.
    aggregation, norm_type, activation_fn, do_concat_trick, recompute_activation
        As in the blocks.
    num_processor_checkpoint_segments, checkpoint_offloading
        As in :class:`MeshGraphNet`.

    Raises
    ------
    ValueError
        If ``processor_size`` is negative, or the number of segments does not divide the number of
        blocks.
    """

    def __init__(
        self,
        processor_size: int = 15,
        input_dim_node: int = 128,
        input_dim_edge: int = 128,
        num_layers_node: int = 2,
        num_layers_edge: int = 2,
        aggregation: str = "sum",
        norm_type: str | None = "LayerNorm",
        activation_fn: str | nn.Module = "relu",
        do_concat_trick: bool = False,
        num_processor_checkpoint_segments: int = 0,
        checkpoint_offloading: bool = False,
        recompute_activation: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(0, processor_size=processor_size)
        check_at_least(0, num_layers_node=num_layers_node, num_layers_edge=num_layers_edge)
        self.processor_layers = nn.ModuleList()
        for _ in range(processor_size):
            edge_block = MeshEdgeBlock(
                input_dim_node,
                input_dim_edge,
                input_dim_edge,
                input_dim_edge,
                num_layers_edge,
                activation_fn,
                norm_type,
                do_concat_trick,
                recompute_activation,
            )
            node_block = MeshNodeBlock(
                aggregation,
                input_dim_node,
                input_dim_edge,
                input_dim_edge,
                input_dim_edge,
                num_layers_node,
                activation_fn,
                norm_type,
                recompute_activation,
            )
            self.processor_layers.extend([edge_block, node_block])
        self.set_checkpoint_segments(num_processor_checkpoint_segments)
        self.set_checkpoint_offload_ctx(checkpoint_offloading)

    def set_checkpoint_segments(self, checkpoint_segments: int) -> None:
        """Divide the blocks into segments whose insides are computed again; 0 for none."""
        count = len(self.processor_layers)
        if (
            not is_integer(checkpoint_segments)
            or checkpoint_segments < 0
            or (checkpoint_segments and count % checkpoint_segments)
        ):
            raise ValueError(
                f"expected a number of checkpoint segments that divides the {count} blocks, or 0 "
                f"for none, got {checkpoint_segments}"
            )
        self.checkpoint_segments = checkpoint_segments

    def set_checkpoint_offload_ctx(self, status: bool) -> None:
        """Say whether what goes into the segments is kept in the memory of the CPU."""
        self.checkpoint_offloading = status

    def forward(self, node_features: Tensor, edge_features: Tensor, graph: GraphLike) -> Tensor:
        """Apply all blocks.

        Parameters
        ----------
        node_features
            Features of shape (nodes, input_dim_node).
        edge_features
            Features of shape (edges, input_dim_edge).
        graph
            The graph.

        Returns
        -------
        The new features of the nodes.
        """
        graph = as_graph(graph)
        count = len(self.processor_layers)
        size = count // self.checkpoint_segments if self.checkpoint_segments else max(count, 1)
        with self._offloading():
            for start in range(0, count, size):
                edge_features, node_features = maybe_checkpoint(
                    self._apply_blocks,
                    self.checkpoint_segments > 0,
                    edge_features,
                    node_features,
                    graph,
                    start,
                    start + size,
                )
        return node_features

    def _apply_blocks(
        self, efeat: Tensor, nfeat: Tensor, graph: Graph, start: int, end: int
    ) -> tuple[Tensor, Tensor]:
        for block in self.processor_layers[start:end]:
            efeat, nfeat = block(efeat, nfeat, graph)
        return efeat, nfeat

    def _offloading(self) -> AbstractContextManager[object]:
        if self.checkpoint_offloading and self.checkpoint_segments:
            return save_on_cpu(pin_memory=torch.cuda.is_available())
        return nullcontext()
