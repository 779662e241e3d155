# SPDX-License-Identifier: Apache-2.0
"""MeshGraphNet."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from physicsnemo.models.gnn_layers import Graph, GraphLike, MeshGraphMLP, as_graph
from physicsnemo.models.gnn_layers._checks import check_dense
from physicsnemo.models.meshgraphnet._processor import MeshGraphNetProcessor
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checks import check_at_least, check_input

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
    """A network that passes messages along the edges of a mesh.

    Features of nodes and of edges are encoded by a perceptron each; then every step of the
    processor updates those of the edges from those of their nodes, and those of the nodes from
    those of the edges that enter; a last perceptron decodes those of the nodes.

    Parameters
    ----------
    input_dim_nodes, input_dim_edges
        Number of features of each node and of each edge.
    output_dim
        Number of outputs of each node.
    processor_size
        Number of steps, and so the distance, in edges, that information travels.
    mlp_activation_fn
        Name of the activation of all perceptrons (:func:`physicsnemo.nn.get_activation`).
    num_layers_node_processor, num_layers_edge_processor
        Number of hidden layers of the perceptrons in each step.
    hidden_dim_processor
        Number of features of nodes and edges within the processor.
    hidden_dim_node_encoder, hidden_dim_edge_encoder, hidden_dim_node_decoder
        Size of the hidden layers of encoders and decoder.
    num_layers_node_encoder, num_layers_edge_encoder, num_layers_node_decoder
        Number of their hidden layers. None for no encoder or decoder: then nodes or edges have
        ``hidden_dim_processor`` features, or as many outputs, whatever the other argument says.
    aggregation
        ``sum`` or ``mean`` of the features of the edges that enter a node.
    do_concat_trick
        Keep the first weight of each edge perceptron as three, under names of their own. It is
        never multiplied with joined features, whether or not it is one.
    num_processor_checkpoint_segments
        Keep for the backward pass only what goes into each of so many segments of the processor,
        and compute the rest again; 0 for keeping all. It divides twice the ``processor_size``.
        Within the transforms of ``torch.func`` all is kept.
    checkpoint_offloading
        Keep that in the memory of the CPU.
    recompute_activation
        Keep of every perceptron only its input, and compute the rest again.
    norm_type
        ``LayerNorm``; or ``TELayerNorm``, which computes the same.

    Raises
    ------
    KeyError
        If there is no activation of that name.
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
            hidden_dim_processor,
            hidden_dim_edge_encoder,
            num_layers_edge_encoder,
            activation,
            norm_type,
            recompute_activation,
        )
        self.node_encoder = MeshGraphMLP(
            input_dim_nodes,
            hidden_dim_processor,
            hidden_dim_node_encoder,
            num_layers_node_encoder,
            activation,
            norm_type,
            recompute_activation,
        )
        self.node_decoder = MeshGraphMLP(
            hidden_dim_processor,
            output_dim,
            hidden_dim_node_decoder,
            num_layers_node_decoder,
            activation,
            None,
            recompute_activation,
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
            Features of shape (nodes, input_dim_nodes).
        edge_features
            Features of shape (edges, input_dim_edges), in the graph's order of edges.
        graph
            The graph, of any kind that :func:`physicsnemo.models.gnn_layers.as_graph` takes. Graphs
            that are joined in a batch do not influence each other.
        **kwargs
            Not used.

        Returns
        -------
        Outputs of shape (nodes, output_dim).

        Raises
        ------
        TypeError
            If features are not of floating point, or the graph is of no known kind.
        ValueError
            If features do not fit the model or the graph, or are on another device, or the edges
            name nodes that there are not.
        """
        graph = self._graph(node_features, graph)
        self._check(node_features, edge_features, graph)
        edges, nodes = self.edge_encoder(edge_features), self.node_encoder(node_features)
        output: Tensor = self.node_decoder(self.processor(nodes, edges, graph))
        return output

    def _graph(self, node_features: Tensor, graph: GraphLike) -> Graph:
        check_dense(node_features, "node_features")
        return as_graph(
            graph, len(node_features) if node_features.ndim else 0, node_features.device
        )

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
        check_input(node_features, nodes, weight, "node_features")
        check_input(edge_features, edges, weight, "edge_features")
