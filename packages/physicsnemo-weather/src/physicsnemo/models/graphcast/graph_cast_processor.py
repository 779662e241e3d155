# SPDX-License-Identifier: Apache-2.0
"""Processors of GraphCast: message passing along the edges of the mesh, or attention."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.gnn_layers import GraphLike, MeshEdgeBlock, as_graph
from physicsnemo.models.gnn_layers.processor import (
    EdgeMessageBlock,
    message_passing_blocks,
    pass_messages,
    segment_bounds,
)
from physicsnemo.models.history import Ignored, follow_history
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.numerics import PAPER, check_numerics
from physicsnemo.nn.transformer import dot_product_attention

__all__ = ["GraphCastProcessor", "GraphCastProcessorGraphTransformer"]

# Defaults of Transformer Engine: standard deviation of the initial weights, and dropout.
_INIT_STD = 0.023
_DROPOUT = 0.1


class GraphCastProcessor(nn.Module):
    """Message-passing processor: edge blocks and node blocks in turns.

    Parameters
    ----------
    aggregation
        ``sum`` or ``mean`` of the messages of a node's incoming edges.
    processor_layers
        Number of message-passing steps.
    input_dim_nodes, input_dim_edges
        Number of node features and of edge features.
    hidden_dim, hidden_layers, activation_fn, norm_type, recompute_activation
        As in :class:`physicsnemo.models.gnn_layers.MeshGraphMLP`.
    do_concat_trick
        As in :class:`physicsnemo.models.gnn_layers.MeshEdgeBlock`.
    numerics
        ``paper``: messages are the outputs of the edge MLPs, without the residual connection.
        ``reference-1.2`` to ``reference-2.2``: messages are the updated edge features, as in
        nvidia-physicsnemo and in :class:`~physicsnemo.models.meshgraphnet.MeshGraphNet`.

    Raises
    ------
    ValueError
        If the aggregation or the numerics are unknown.

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
        self.processor_layers = message_passing_blocks(
            processor_layers,
            edge_block=EdgeMessageBlock if numerics == PAPER else MeshEdgeBlock,
            input_dim_nodes=input_dim_nodes,
            input_dim_edges=input_dim_edges,
            hidden_dim=hidden_dim,
            hidden_layers_nodes=hidden_layers,
            hidden_layers_edges=hidden_layers,
            aggregation=aggregation,
            activation_fn=activation_fn,
            norm_type=norm_type,
            do_concat_trick=do_concat_trick,
            recompute_activation=recompute_activation,
        )
        self.set_checkpoint_segments(0)

    def set_checkpoint_segments(self, checkpoint_segments: int) -> None:
        """Set the number of segments for activation checkpointing; 0 or -1 for no checkpointing."""
        self._bounds = _segment_bounds(self.processor_layers, checkpoint_segments)

    def forward(self, efeat: Tensor, nfeat: Tensor, graph: GraphLike) -> tuple[Tensor, Tensor]:
        """Apply all blocks.

        Parameters
        ----------
        efeat
            Mesh edge features, of shape (edges, input_dim_edges).
        nfeat
            Vertex features, of shape (vertices, input_dim_nodes).
        graph
            Graph of the mesh.

        Returns
        -------
        The updated mesh edge features and vertex features.
        """
        return pass_messages(
            self.processor_layers,
            efeat=efeat,
            nfeat=nfeat,
            graph=as_graph(graph),
            segments=self._bounds,
        )


class GraphCastProcessorGraphTransformer(nn.Module):
    """Graph transformer: self-attention among the vertices of the mesh.

    The attention mask is a dense matrix, of one byte a pair as a buffer and of a number a pair
    where attention adds it.

    Parameters
    ----------
    attention_mask
        True for pairs of vertices that attend to each other, of shape (vertices, vertices); None
        for full attention.
    num_attention_heads
        Number of attention heads, which must divide ``hidden_dim``.
    processor_layers
        Number of transformer layers.
    hidden_dim
        Number of features of a vertex.

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
        """Set the number of segments for activation checkpointing; 0 or -1 for no checkpointing."""
        self._bounds = _segment_bounds(self.processor_layers, checkpoint_segments)

    def forward(self, nfeat: Tensor) -> Tensor:
        """Update node features of shape (vertices, hidden_dim)."""
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


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer, whose weights are named as those of Transformer Engine.

    Dropout of 0.1 applies to the attention weights and to both residual branches.

    Parameters
    ----------
    hidden_dim
        Number of features of a node, and width of the MLP's hidden layer.
    num_attention_heads
        Number of attention heads, which must divide ``hidden_dim``.

    References
    ----------
    Vaswani et al. 2017, arXiv:1706.03762; Xiong et al. 2020, arXiv:2002.04745 (pre-norm).
    """

    _state_history = (Ignored("_extra_state"),)  # of Transformer Engine

    def __init__(self, hidden_dim: int, num_attention_heads: int) -> None:
        super().__init__()
        self.self_attention = Attention(hidden_dim, num_attention_heads)
        self.layernorm_mlp = _Normalized(hidden_dim, ("fc1", "fc2"))
        follow_history(self)

    def forward(self, nfeat: Tensor, mask: Tensor | None = None) -> Tensor:
        """Update node features.

        Parameters
        ----------
        nfeat
            Node features of shape (nodes, hidden_dim).
        mask
            True for pairs of nodes that attend to each other, of shape (nodes, nodes); None for
            full attention.
        """
        nfeat = nfeat + self._drop(self.self_attention(nfeat, mask))
        x = self.layernorm_mlp(nfeat)
        x = functional.gelu(self.layernorm_mlp.linear(x, "fc1"), approximate="tanh")
        return nfeat + self._drop(self.layernorm_mlp.linear(x, "fc2"))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, _DROPOUT, self.training)


class _Normalized(nn.Module):
    """A layer normalization and linear layers, fused into one module as in Transformer Engine."""

    layer_norm_weight: nn.Parameter
    layer_norm_bias: nn.Parameter

    def __init__(self, dim: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layer_norm_weight = nn.Parameter(torch.ones(dim))
        self.layer_norm_bias = nn.Parameter(torch.zeros(dim))
        for name in names:
            weight = nn.init.normal_(torch.empty(dim, dim), std=_INIT_STD)
            self.register_parameter(f"{name}_weight", nn.Parameter(weight))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(dim)))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.layer_norm_weight, self.layer_norm_bias)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm_qkv = _Normalized(dim, ("query", "key", "value"))
        self.proj = nn.Linear(dim, dim)
        nn.init.normal_(self.proj.weight, std=_INIT_STD)
        nn.init.zeros_(self.proj.bias)

    def forward(self, nfeat: Tensor, mask: Tensor | None) -> Tensor:
        return self.attend(*self.project(nfeat), mask)

    def project(self, nfeat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, all of shape (nodes, dim)."""
        x = self.layernorm_qkv(nfeat)
        query, key, value = (
            self.layernorm_qkv.linear(x, name) for name in ("query", "key", "value")
        )
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Update nodes by their queries, and by keys and values of all nodes that they may see."""
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(0, 1)[None] for x in (query, key, value)
        )
        dropout = _DROPOUT if self.training else 0.0
        x = dot_product_attention(query, key, value, mask=mask, dropout=dropout)
        projected: Tensor = self.proj(x[0].transpose(0, 1).flatten(1))
        return projected


def _segment_bounds(layers: nn.ModuleList, segments: int) -> tuple[int, ...]:
    return segment_bounds(len(layers), max(segments, 0), "blocks of the processor")
