# SPDX-License-Identifier: Apache-2.0
"""MeshGraphNet with message passing on coarser graphs too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from physicsnemo.models.gnn_layers import Graph, GraphLike
from physicsnemo.models.gnn_layers.bsms import BistrideGraphMessagePassing, make_hierarchy
from physicsnemo.models.meshgraphnet._levels import read_levels
from physicsnemo.models.meshgraphnet.meshgraphnet import MeshGraphNet
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.nn.checks import check_at_least, check_input

__all__ = ["BiStrideMeshGraphNet", "MetaData"]


@dataclass
class MetaData(ModelMetaData):
    """What :class:`BiStrideMeshGraphNet` supports."""

    name: str = "BiStrideMeshGraphNet"
    cuda_graphs: bool = True
    amp_gpu: bool | None = True
    func_torch: bool = True
    auto_grad: bool = True


class BiStrideMeshGraphNet(MeshGraphNet):
    """A MeshGraphNet whose messages also travel far, on coarser and coarser graphs of the mesh.

    Between the processor of :class:`MeshGraphNet` and its decoder stands a U-net: steps of message
    passing on the mesh and on each coarser graph, then back. :func:`bistride_levels` makes the
    coarser graphs, once a mesh.

    Parameters
    ----------
    input_dim_nodes, input_dim_edges, output_dim, processor_size, mlp_activation_fn
        As in :class:`MeshGraphNet`. The perceptrons of the U-net have the activation ``silu``.
    num_layers_node_processor, num_layers_edge_processor
        As in :class:`MeshGraphNet`.
    num_mesh_levels
        Number of coarser graphs.
    bistride_pos_dim
        Number of dimensions of the nodes' positions.
    num_layers_bistride
        Number of hidden layers of the perceptrons in the U-net.
    bistride_unet_levels
        How many times to apply the U-net.
    hidden_dim_processor, hidden_dim_node_encoder, num_layers_node_encoder
        As in :class:`MeshGraphNet`.
    hidden_dim_edge_encoder, num_layers_edge_encoder
        As in :class:`MeshGraphNet`.
    hidden_dim_node_decoder, num_layers_node_decoder, aggregation, do_concat_trick
        As in :class:`MeshGraphNet`.
    num_processor_checkpoint_segments, recompute_activation
        As in :class:`MeshGraphNet`; ``recompute_activation`` reaches the U-net too.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    ValueError
        If another argument has a value that is not described above.

    References
    ----------
    Cao et al. 2023, Efficient learning of mesh-based physical simulation with bi-stride
    multi-scale graph neural network, arXiv:2210.02573.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.gnn_layers import Graph
    >>> from physicsnemo.models.meshgraphnet import BiStrideMeshGraphNet, bistride_levels
    >>> ring = torch.stack((torch.arange(20), torch.arange(1, 21) % 20))
    >>> mesh = Graph(torch.cat((ring, ring.flip(0)), dim=1), num_nodes=20, pos=torch.rand(20, 3))
    >>> ms_edges, ms_ids = bistride_levels(mesh.edge_index, mesh.num_nodes, num_levels=2)
    >>> model = BiStrideMeshGraphNet(input_dim_nodes=4, input_dim_edges=3, output_dim=2)
    >>> model(torch.randn(20, 4), torch.randn(40, 3), mesh, ms_edges, ms_ids).shape
    torch.Size([20, 2])
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
        num_mesh_levels: int = 2,
        bistride_pos_dim: int = 3,
        num_layers_bistride: int = 2,
        bistride_unet_levels: int = 1,
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
        recompute_activation: bool = False,
    ) -> None:
        super().__init__(
            input_dim_nodes,
            input_dim_edges,
            output_dim,
            processor_size,
            mlp_activation_fn,
            num_layers_node_processor,
            num_layers_edge_processor,
            hidden_dim_processor,
            hidden_dim_node_encoder,
            num_layers_node_encoder,
            hidden_dim_edge_encoder,
            num_layers_edge_encoder,
            hidden_dim_node_decoder,
            num_layers_node_decoder,
            aggregation,
            do_concat_trick,
            num_processor_checkpoint_segments,
            recompute_activation=recompute_activation,
        )
        check_at_least(
            0, num_mesh_levels=num_mesh_levels, bistride_unet_levels=bistride_unet_levels
        )
        check_at_least(1, bistride_pos_dim=bistride_pos_dim)
        self.meta = MetaData()
        self.bistride_unet_levels = bistride_unet_levels
        self.num_mesh_levels = num_mesh_levels
        self.bistride_pos_dim = bistride_pos_dim
        self.bistride_processor = BistrideGraphMessagePassing(
            num_mesh_levels,
            hidden_dim_processor,
            num_layers_bistride,
            bistride_pos_dim,
            recompute_activation,
        )

    def forward(
        self,
        node_features: Tensor,
        edge_features: Tensor,
        graph: GraphLike,
        ms_edges: Sequence[Tensor | Graph] = (),
        ms_ids: Sequence[Tensor] = (),
        **kwargs: Any,
    ) -> Tensor:
        """Compute the outputs of all nodes.

        Parameters
        ----------
        node_features, edge_features, graph
            As in :meth:`MeshGraphNet.forward`. The graph has positions: ``Graph(..., pos=...)``,
            ``data.pos`` or ``graph.ndata["pos"]``, of shape (nodes, bistride_pos_dim).
        ms_edges
            ``num_mesh_levels + 1`` graphs, of which the first has the nodes of ``graph``: as
            :func:`bistride_levels` returns them, or as integers of shape (2, edges), which are
            sorted anew at each call. A first axis of 1 before these two, which data loaders add,
            does not matter.
        ms_ids
            The nodes of each of these graphs that make up the next, integers of shape
            (nodes of the next,).
        **kwargs
            Not used.

        Returns
        -------
        Outputs of shape (nodes, output_dim).

        Raises
        ------
        TypeError
            As :meth:`MeshGraphNet.forward`.
        ValueError
            As :meth:`MeshGraphNet.forward`, or if the graph has no positions, or the coarser graphs
            do not fit.
        """
        graph = self._graph(node_features, graph)
        self._check(node_features, edge_features, graph)
        pos = self._positions(graph)
        hierarchy = make_hierarchy(pos, *read_levels(ms_edges, ms_ids, self.num_mesh_levels, pos))
        edges, nodes = self.edge_encoder(edge_features), self.node_encoder(node_features)
        nodes = self.processor(nodes, edges, graph)
        for _ in range(self.bistride_unet_levels):
            nodes = self.bistride_processor(nodes, hierarchy)
        output: Tensor = self.node_decoder(nodes)
        return output

    def _positions(self, graph: Graph) -> Tensor:
        if graph.pos is None:
            raise ValueError(
                "expected a graph with the positions of its nodes, got one without; set pos in "
                "Graph(..., pos=...), data.pos or graph.ndata['pos']"
            )
        layout = {"nodes": graph.num_nodes, "bistride_pos_dim": self.bistride_pos_dim}
        check_input(graph.pos, layout, self.device_buffer, "pos", "floating")
        return graph.pos
