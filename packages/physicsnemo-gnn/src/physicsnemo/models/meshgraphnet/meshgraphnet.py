# SPDX-License-Identifier: Apache-2.0
"""MeshGraphNet: encoder, message-passing processor, decoder."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu

from physicsnemo.models.gnn_layers import Graph, GraphLike, MeshGraphMLP, as_graph
from physicsnemo.models.gnn_layers.checks import check_dense
from physicsnemo.models.gnn_layers.processor import (
    message_passing_blocks,
    pass_messages,
    segment_bounds,
)
from physicsnemo.models.history import Value
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import check_at_least, check_input
from physicsnemo.nn.tracing import is_tracing

__all__ = ["MeshGraphNet", "MeshGraphNetProcessor", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`MeshGraphNet` supports."""

    name: str = "MeshGraphNet"
    cuda_graphs: bool = True
    amp_gpu: bool | None = True
    func_torch: bool = True
    auto_grad: bool = True


class MeshGraphNet(Module):
    """MeshGraphNet: message passing along the edges of a mesh.

    MLPs encode node and edge features. Each step of the processor updates edge features from those
    of both nodes, then node features from their incoming edges. An MLP decodes the node features.

    Parameters
    ----------
    input_dim_nodes, input_dim_edges
        Number of node features and of edge features.
    output_dim
        Number of outputs per node.
    processor_size
        Number of message-passing steps, and so the receptive field in edges.
    mlp_activation_fn
        Activation of all MLPs, by name (:func:`physicsnemo.nn.get_activation`).
    num_layers_node_processor, num_layers_edge_processor
        Number of hidden layers of the node MLPs and edge MLPs of the processor.
    hidden_dim_processor
        Number of node features and of edge features in the processor.
    hidden_dim_node_encoder, hidden_dim_edge_encoder, hidden_dim_node_decoder
        Width of the hidden layers of the encoders and the decoder.
    num_layers_node_encoder, num_layers_edge_encoder, num_layers_node_decoder
        Number of hidden layers of the encoders and the decoder. None for no encoder or decoder:
        nodes or edges then have ``hidden_dim_processor`` inputs or outputs, whatever their own
        argument says.
    aggregation
        ``sum`` or ``mean`` of the features of a node's incoming edges.
    do_concat_trick
        Store the first weight of each edge MLP as three, under names of their own. Features are
        never concatenated, with or without it.
    num_processor_checkpoint_segments
        Number of segments for activation checkpointing of the processor, which divides twice the
        ``processor_size``: only the inputs of each are kept for the backward pass. 0 for no
        checkpointing. All activations are kept within the transforms of ``torch.func``.
    checkpoint_offloading
        Whether the inputs of the segments are kept in CPU memory.
    recompute_activation
        Activation checkpointing of every MLP.
    norm_type
        Normalization: ``LayerNorm``; ``TELayerNorm`` computes the same.

    Raises
    ------
    KeyError
        If the activation is unknown.
    ValueError
        If another argument has a value that is not described above.

    References
    ----------
    Pfaff et al. 2021, arXiv:2010.03409.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph
    >>> from physicsnemo.models.meshgraphnet import MeshGraphNet
    >>> model = MeshGraphNet(input_dim_nodes=4, input_dim_edges=3, output_dim=2)
    >>> triangle = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), num_nodes=3)
    >>> model(torch.randn(3, 4), torch.randn(3, 3), triangle).shape
    torch.Size([3, 2])
    """

    _argument_history = tuple(
        Value(f"num_layers_{part}", None, until="2.0")
        for part in ("node_encoder", "edge_encoder", "node_decoder")
    )

    def __init__(
        self,
        input_dim_nodes: int,
        input_dim_edges: int,
        output_dim: int,
        processor_size: int = 15,
        mlp_activation_fn: str = "relu",
        num_layers_node_processor: int = 2,
        num_layers_edge_processor: int = 2,
        hidden_dim_processor: int = 128,
        hidden_dim_node_encoder: int = 128,
        num_layers_node_encoder: int | None = 2,
        hidden_dim_edge_encoder: int = 128,
        num_layers_edge_encoder: int | None = 2,
        hidden_dim_node_decoder: int = 128,
        num_layers_node_decoder: int | None = 2,
        aggregation: str = "sum",
        do_concat_trick: bool = False,
        num_processor_checkpoint_segments: int = 0,
        checkpoint_offloading: bool = False,
        recompute_activation: bool = False,
        norm_type: str = "LayerNorm",
    ) -> None:
        super().__init__(meta=MetaData())
        check_at_least(1, input_dim_nodes=input_dim_nodes, input_dim_edges=input_dim_edges)
        check_at_least(1, output_dim=output_dim, hidden_dim_processor=hidden_dim_processor)
        # Without an encoder, features go into the processor as they are.
        self._node_layout, self._edge_layout = (
            {"hidden_dim_processor": hidden_dim_processor} if layers is None else {name: size}
            for name, size, layers in (
                ("input_dim_nodes", input_dim_nodes, num_layers_node_encoder),
                ("input_dim_edges", input_dim_edges, num_layers_edge_encoder),
            )
        )
        activation = get_activation(mlp_activation_fn)  # one for all, as weights in files have it
        self.edge_encoder = MeshGraphMLP(
            input_dim_edges,
            output_dim=hidden_dim_processor,
            hidden_dim=hidden_dim_edge_encoder,
            hidden_layers=num_layers_edge_encoder,
            activation_fn=activation,
            norm_type=norm_type,
            recompute_activation=recompute_activation,
        )
        self.node_encoder = MeshGraphMLP(
            input_dim_nodes,
            output_dim=hidden_dim_processor,
            hidden_dim=hidden_dim_node_encoder,
            hidden_layers=num_layers_node_encoder,
            activation_fn=activation,
            norm_type=norm_type,
            recompute_activation=recompute_activation,
        )
        self.node_decoder = MeshGraphMLP(
            hidden_dim_processor,
            output_dim=output_dim,
            hidden_dim=hidden_dim_node_decoder,
            hidden_layers=num_layers_node_decoder,
            activation_fn=activation,
            norm_type=None,
            recompute_activation=recompute_activation,
        )
        self.processor = MeshGraphNetProcessor(
            processor_size=processor_size,
            input_dim_node=hidden_dim_processor,
            input_dim_edge=hidden_dim_processor,
            num_layers_node=num_layers_node_processor,
            num_layers_edge=num_layers_edge_processor,
            aggregation=aggregation,
            norm_type=norm_type,
            activation_fn=activation,
            do_concat_trick=do_concat_trick,
            num_processor_checkpoint_segments=num_processor_checkpoint_segments,
            checkpoint_offloading=checkpoint_offloading,
            recompute_activation=recompute_activation,
        )

    def forward(
        self, node_features: Tensor, edge_features: Tensor, graph: GraphLike, **kwargs: Any
    ) -> Tensor:
        """Compute the outputs of all nodes.

        Parameters
        ----------
        node_features
            Node features of shape (nodes, input_dim_nodes).
        edge_features
            Edge features of shape (edges, input_dim_edges), in the graph's order of edges.
        graph
            The graph, of any type that :func:`physicsnemo.models.gnn_layers.as_graph` takes. The
            graphs of a batch are independent of each other.
        **kwargs
            Ignored.

        Returns
        -------
        Outputs of shape (nodes, output_dim).

        Raises
        ------
        TypeError
            If features are not floating-point, or the type of the graph is unknown.
        ValueError
            If shapes or devices do not fit the model or the graph, or node indices are out of
            range.
        """
        graph = self._graph(node_features, graph)
        self._check(node_features, edge_features, graph)
        edges, nodes = self.edge_encoder(edge_features), self.node_encoder(node_features)
        output: Tensor = self.node_decoder(self.processor(nodes, edges, graph))
        return output

    def _graph(self, node_features: Tensor, graph: GraphLike) -> Graph:
        check_dense(node_features, "node_features")
        # A Data of edges alone does not tell its number of nodes, but the features do.
        num_nodes = node_features.shape[0] if node_features.ndim else 0
        return as_graph(graph, num_nodes, node_features.device)

    def _check(self, node_features: Tensor, edge_features: Tensor, graph: Graph) -> None:
        weight = next(self.parameters())
        if graph.device != weight.device:
            raise ValueError(
                f"the graph is on {graph.device} and the model on {weight.device}; move one of "
                f"them, as in graph.to({str(weight.device)!r})"
            )
        if graph.num_nodes != graph.num_targets:
            raise ValueError(
                f"expected a graph of one kind of nodes, got one from {graph.num_nodes} to "
                f"{graph.num_targets}"
            )
        nodes = {"nodes": graph.num_nodes} | self._node_layout
        edges = {"edges": graph.num_edges} | self._edge_layout
        _check_order(
            node_features, edge_features, *self._node_layout.values(), *self._edge_layout.values()
        )
        check_input(node_features, nodes, weight, name="node_features")
        check_input(edge_features, edges, weight, name="edge_features")


def _check_order(
    node_features: Tensor, edge_features: Tensor, of_nodes: int, of_edges: int
) -> None:
    """Raise an error if features of nodes and of edges, told apart by number, are swapped."""
    if is_tracing() or of_nodes == of_edges or not isinstance(edge_features, Tensor):
        return
    given = (*node_features.shape[-1:], *edge_features.shape[-1:])
    if given == (of_edges, of_nodes):
        raise ValueError(
            f"expected node_features with {of_nodes} features and edge_features with {of_edges}, "
            f"got {of_edges} and {of_nodes}: they are in each other's place; pass "
            f"model(node_features, edge_features, graph)"
        )


class MeshGraphNetProcessor(nn.Module):
    """Processor of MeshGraphNet: edge blocks and node blocks in turns.

    Parameters
    ----------
    processor_size
        Number of message-passing steps.
    input_dim_node, input_dim_edge
        Number of node features and of edge features, which must be equal.
    num_layers_node, num_layers_edge
        Number of hidden layers of the node MLPs and edge MLPs.
    aggregation, norm_type, activation_fn, do_concat_trick, recompute_activation
        As in :class:`~physicsnemo.models.gnn_layers.MeshEdgeBlock` and
        :class:`~physicsnemo.models.gnn_layers.MeshNodeBlock`.
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
        self.processor_layers = message_passing_blocks(
            processor_size,
            input_dim_nodes=input_dim_node,
            input_dim_edges=input_dim_edge,
            hidden_dim=input_dim_edge,
            hidden_layers_nodes=num_layers_node,
            hidden_layers_edges=num_layers_edge,
            aggregation=aggregation,
            activation_fn=activation_fn,
            norm_type=norm_type,
            do_concat_trick=do_concat_trick,
            recompute_activation=recompute_activation,
        )
        self.set_checkpoint_segments(num_processor_checkpoint_segments)
        self.set_checkpoint_offload_ctx(checkpoint_offloading)

    def set_checkpoint_segments(self, checkpoint_segments: int) -> None:
        """Set the number of segments for activation checkpointing; 0 for no checkpointing."""
        self._bounds = segment_bounds(len(self.processor_layers), checkpoint_segments)
        self.checkpoint_segments = checkpoint_segments

    def set_checkpoint_offload_ctx(self, status: bool) -> None:
        """Set whether the inputs of the segments are kept in CPU memory."""
        self.checkpoint_offloading = status

    def forward(self, node_features: Tensor, edge_features: Tensor, graph: GraphLike) -> Tensor:
        """Apply all blocks.

        Parameters
        ----------
        node_features
            Node features of shape (nodes, input_dim_node).
        edge_features
            Edge features of shape (edges, input_dim_edge).
        graph
            The graph.

        Returns
        -------
        The updated node features.
        """
        with self._offloading():
            _, node_features = pass_messages(
                self.processor_layers,
                efeat=edge_features,
                nfeat=node_features,
                graph=as_graph(graph),
                segments=self._bounds,
            )
        return node_features

    def _offloading(self) -> AbstractContextManager[object]:
        # Only with checkpointing: what is saved within the segments is of the backward pass alone.
        if self.checkpoint_offloading and self.checkpoint_segments:
            return save_on_cpu(pin_memory=torch.cuda.is_available())
        return nullcontext()
