# SPDX-License-Identifier: Apache-2.0
"""Autoencoder of mesh states: GNN encoder, pivotal points, GNN decoder."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from physicsnemo.models.gnn_layers import Graph, GraphLike, as_graph
from physicsnemo.models.gnn_layers.checks import can_read
from physicsnemo.models.mesh_reduced.interpolation import (
    knn_interpolate,
    nearest_points,
    weighted_mean,
)
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import check_at_least, check_input
from physicsnemo.nn.numerics import PAPER, has_oddity, implied

__all__ = ["Mesh_Reduced", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`Mesh_Reduced` supports."""

    name: str = "Mesh_Reduced"
    amp_gpu: bool | None = True
    auto_grad: bool = True


class Mesh_Reduced(Module):  # noqa: N801  # the name is part of the file format
    """Mesh-reduced autoencoder: encode a mesh state as features of a few pivotal points.

    The encoder is a MeshGraphNet with a normalization, followed by interpolation from the mesh
    nodes to the pivotal points; the decoder interpolates back to the nodes and applies another
    MeshGraphNet. A temporal model, such as
    :class:`~physicsnemo.models.mesh_reduced.temporal_model.Sequence_Model`, can work on the
    ``output_encode_dim`` features of the pivotal points.

    Parameters
    ----------
    input_dim_nodes, input_dim_edges
        Number of node features and of edge features.
    output_decode_dim
        Number of outputs per node.
    output_encode_dim
        Number of features per pivotal point.
    processor_size, num_layers_node_processor, num_layers_edge_processor, hidden_dim_processor
        As in :class:`~physicsnemo.models.meshgraphnet.MeshGraphNet`, for encoder and decoder.
    hidden_dim_node_encoder, num_layers_node_encoder
        As in ``MeshGraphNet``.
    hidden_dim_edge_encoder, num_layers_edge_encoder
        As in ``MeshGraphNet``.
    hidden_dim_node_decoder, num_layers_node_decoder
        As in ``MeshGraphNet``.
    k
        Number of neighbors to interpolate from.
    aggregation
        ``sum`` or ``mean`` of the features of a node's incoming edges.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` to compute what those releases of
        nvidia-physicsnemo do; before 2.0 they ignore ``k`` and take 3.

    Raises
    ------
    ValueError
        If an argument has a value that is not described above.

    References
    ----------
    Han et al. 2022, Predicting physics in mesh-reduced space with temporal attention,
    arXiv:2201.09113, section 3.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph
    >>> from physicsnemo.models.mesh_reduced import Mesh_Reduced
    >>> model = Mesh_Reduced(input_dim_nodes=2, input_dim_edges=3, output_decode_dim=2)
    >>> ring = Graph(torch.stack((torch.arange(20), torch.arange(1, 21) % 20)), num_nodes=20)
    >>> mesh, pivotal, edges = torch.rand(20, 2), torch.rand(5, 2), torch.randn(20, 3)
    >>> reduced = model.encode(torch.randn(20, 2), edges, ring, mesh, pivotal)
    >>> reduced.shape
    torch.Size([5, 3])
    >>> model.decode(reduced, edges, ring, mesh, pivotal).shape
    torch.Size([20, 2])
    """

    _implied_args = implied("fixed_neighbours")

    knn_interpolate = staticmethod(knn_interpolate)

    def __init__(
        self,
        input_dim_nodes: int,
        input_dim_edges: int,
        output_decode_dim: int,
        output_encode_dim: int = 3,
        processor_size: int = 15,
        num_layers_node_processor: int = 2,
        num_layers_edge_processor: int = 2,
        hidden_dim_processor: int = 128,
        hidden_dim_node_encoder: int = 128,
        num_layers_node_encoder: int | None = 2,
        hidden_dim_edge_encoder: int = 128,
        num_layers_edge_encoder: int | None = 2,
        hidden_dim_node_decoder: int = 128,
        num_layers_node_decoder: int | None = 2,
        k: int = 3,
        aggregation: str = "mean",
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        fixed = has_oddity(numerics, "fixed_neighbours")
        if not fixed:
            check_at_least(1, k=k)

        def network(input_dim: int, output_dim: int) -> MeshGraphNet:
            return MeshGraphNet(
                input_dim_nodes=input_dim,
                input_dim_edges=input_dim_edges,
                output_dim=output_dim,
                processor_size=processor_size,
                num_layers_node_processor=num_layers_node_processor,
                num_layers_edge_processor=num_layers_edge_processor,
                hidden_dim_processor=hidden_dim_processor,
                hidden_dim_node_encoder=hidden_dim_node_encoder,
                num_layers_node_encoder=num_layers_node_encoder,
                hidden_dim_edge_encoder=hidden_dim_edge_encoder,
                num_layers_edge_encoder=num_layers_edge_encoder,
                hidden_dim_node_decoder=hidden_dim_node_decoder,
                num_layers_node_decoder=num_layers_node_decoder,
                aggregation=aggregation,
            )

        self.k = 3 if fixed else k
        self.encoder_processor = network(input_dim_nodes, output_encode_dim)
        self.decoder_processor = network(output_encode_dim, output_decode_dim)
        self.PivotalNorm = nn.LayerNorm(output_encode_dim)

    def forward(
        self,
        x: Tensor,
        edge_features: Tensor,
        graph: GraphLike,
        position_mesh: Tensor,
        position_pivotal: Tensor,
    ) -> Tensor:
        """Encode and decode states, as for training both parts together.

        Parameters
        ----------
        x
            Node features of all samples, of shape (samples * nodes, input_dim_nodes).
        edge_features
            Edge features of shape (samples * edges, input_dim_edges).
        graph
            The mesh, or a batch of it for several samples, of any type that
            :func:`physicsnemo.models.gnn_layers.as_graph` takes.
        position_mesh
            Node positions of one sample, of shape (nodes, dimensions).
        position_pivotal
            Positions of the pivotal points, of shape (points, dimensions).

        Returns
        -------
        Outputs of shape (samples * nodes, output_decode_dim).
        """
        mesh: dict[str, Any] = {
            "edge_features": edge_features,
            "graph": graph,
            "position_mesh": position_mesh,
            "position_pivotal": position_pivotal,
        }
        return self.decode(self.encode(x, **mesh), **mesh)

    def encode(
        self,
        x: Tensor,
        edge_features: Tensor,
        graph: GraphLike,
        position_mesh: Tensor,
        position_pivotal: Tensor,
    ) -> Tensor:
        """Encode states of one mesh.

        Parameters
        ----------
        x
            Node features of all samples, of shape (samples * nodes, input_dim_nodes).
        edge_features
            Edge features of shape (samples * edges, input_dim_edges).
        graph
            The mesh, or a batch of it for several samples, of any type that
            :func:`physicsnemo.models.gnn_layers.as_graph` takes.
        position_mesh
            Node positions of one sample, of shape (nodes, dimensions).
        position_pivotal
            Positions of the pivotal points, of shape (points, dimensions).

        Returns
        -------
        Features of the pivotal points, of shape (samples * points, output_encode_dim).

        Raises
        ------
        TypeError
            If features are not floating-point, or the type of the graph is unknown.
        ValueError
            If shapes or devices do not fit each other or the model.
        """
        self._check(x=x, position_mesh=position_mesh, position_pivotal=position_pivotal)
        graph = as_graph(graph, x.shape[0], x.device)
        _check_samples(graph, position_mesh.shape[0])
        encoded = self.PivotalNorm(self.encoder_processor(x, edge_features, graph))
        return self._interpolate(
            encoded, samples=graph.num_graphs, pos_x=position_mesh, pos_y=position_pivotal
        )

    def decode(
        self,
        x: Tensor,
        edge_features: Tensor,
        graph: GraphLike,
        position_mesh: Tensor,
        position_pivotal: Tensor,
    ) -> Tensor:
        """Decode states to the mesh.

        Parameters
        ----------
        x
            Features of the pivotal points, of shape (samples * points, output_encode_dim).
        edge_features, graph, position_mesh, position_pivotal
            As in :meth:`encode`.

        Returns
        -------
        Outputs of shape (samples * nodes, output_decode_dim).

        Raises
        ------
        TypeError
            As :meth:`encode`.
        ValueError
            As :meth:`encode`.
        """
        self._check(x=x, position_mesh=position_mesh, position_pivotal=position_pivotal)
        samples = x.shape[0] // max(1, position_pivotal.shape[0])
        graph = as_graph(graph, samples * position_mesh.shape[0], x.device)
        _check_samples(graph, position_mesh.shape[0])
        nodes = self._interpolate(
            x, samples=graph.num_graphs, pos_x=position_pivotal, pos_y=position_mesh
        )
        output: Tensor = self.decoder_processor(nodes, edge_features, graph)
        return output

    def _check(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            layout = {"points": None, "features" if name == "x" else "dimensions": None}
            check_input(tensor, layout, self.PivotalNorm.weight, name=name, numbers="floating")

    def _interpolate(self, x: Tensor, *, samples: int, pos_x: Tensor, pos_y: Tensor) -> Tensor:
        """Interpolate features of all samples; neighbors are the same for each, and found once."""
        points = pos_x.shape[0]
        if x.shape[0] != samples * points:
            raise ValueError(
                f"expected features of {samples} x {points} points, as the graph has {samples} "
                f"samples and there are {points} positions, got {x.shape[0]}; give the positions "
                f"of one sample, first those of nodes and then those of pivotal points, each of "
                f"shape (points, dimensions), and a batch of graphs for several"
            )
        x = x.unflatten(0, (samples, points)).transpose(0, 1)
        nearest = nearest_points(pos_x, pos_y, self.k)
        return weighted_mean(x, nearest).transpose(0, 1).flatten(end_dim=1)


def _check_samples(graph: Graph, nodes: int) -> None:
    """Raise an error unless each graph of the batch has this number of nodes."""
    if graph.batch is None or not can_read(graph.batch):
        return
    counts = graph.batch.long().bincount(minlength=graph.num_graphs)
    if not (counts == nodes).all():
        raise ValueError(
            f"expected {nodes} nodes in each graph of the batch, as position_mesh has, got "
            f"{counts.tolist()[:8]}; all samples are on one mesh"
        )
