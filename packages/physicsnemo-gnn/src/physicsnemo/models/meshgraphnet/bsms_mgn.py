# SPDX-License-Identifier: Apache-2.0
"""Bi-stride multi-scale MeshGraphNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from physicsnemo.models.gnn_layers import Graph, GraphLike, as_graph
from physicsnemo.models.gnn_layers.bsms import BistrideGraphMessagePassing, make_hierarchy
from physicsnemo.models.gnn_layers.checks import (
    INTEGERS,
    can_read,
    check_dense,
    check_edges,
    may_change_unseen,
)
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


# Version and number of nodes for which the values of ms_ids were valid: each check waits for a GPU.
_validated = WeakIdKeyDictionary()


class BiStrideMeshGraphNet(MeshGraphNet):
    """Bi-stride multi-scale MeshGraphNet: long-range message passing on coarser graphs of a mesh.

    Between the processor of :class:`MeshGraphNet` and its decoder, a U-Net of graphs passes
    messages on the mesh, on each coarser graph and back. :func:`bistride_levels` builds the coarser
    graphs, once per mesh.

    Parameters
    ----------
    input_dim_nodes, input_dim_edges, output_dim, processor_size, mlp_activation_fn
        As in :class:`MeshGraphNet`. The MLPs of the U-Net have the activation ``silu``.
    num_layers_node_processor, num_layers_edge_processor
        As in :class:`MeshGraphNet`.
    num_mesh_levels
        Number of coarser graphs.
    bistride_pos_dim
        Number of spatial dimensions.
    num_layers_bistride
        Number of hidden layers of the MLPs in the U-Net.
    bistride_unet_levels
        Number of passes through the U-Net.
    hidden_dim_processor, hidden_dim_node_encoder, num_layers_node_encoder
        As in :class:`MeshGraphNet`.
    hidden_dim_edge_encoder, num_layers_edge_encoder
        As in :class:`MeshGraphNet`.
    hidden_dim_node_decoder, num_layers_node_decoder, aggregation, do_concat_trick
        As in :class:`MeshGraphNet`.
    num_processor_checkpoint_segments, recompute_activation
        As in :class:`MeshGraphNet`; ``recompute_activation`` includes the U-Net.

    Raises
    ------
    KeyError
        If the activation is unknown.
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
            input_dim_nodes=input_dim_nodes,
            input_dim_edges=input_dim_edges,
            output_dim=output_dim,
            processor_size=processor_size,
            mlp_activation_fn=mlp_activation_fn,
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
            do_concat_trick=do_concat_trick,
            num_processor_checkpoint_segments=num_processor_checkpoint_segments,
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
            unet_depth=num_mesh_levels,
            latent_dim=hidden_dim_processor,
            hidden_layer=num_layers_bistride,
            pos_dim=bistride_pos_dim,
            recompute_activation=recompute_activation,
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
            As in :meth:`MeshGraphNet.forward`. The graph needs node positions of shape
            (nodes, bistride_pos_dim): ``Graph(..., pos=...)``, ``data.pos`` or
            ``graph.ndata["pos"]``.
        ms_edges
            ``num_mesh_levels + 1`` graphs, the first with the nodes of ``graph``: as returned by
            :func:`bistride_levels`, or as integers of shape (2, edges), which are sorted in each
            call. A leading axis of 1, which data loaders add, is dropped.
        ms_ids
            For each of these graphs but the last, indices of the nodes that the next one keeps,
            integers of shape (kept nodes,).
        **kwargs
            Ignored.

        Returns
        -------
        Outputs of shape (nodes, output_dim).

        Raises
        ------
        TypeError
            As :meth:`MeshGraphNet.forward`.
        ValueError
            As :meth:`MeshGraphNet.forward`, or if the graph has no positions or the coarser graphs
            do not fit.
        """
        graph = self._graph(node_features, graph)
        self._check(node_features, edge_features, graph)
        pos = self._positions(graph)
        graphs, ids = _read_levels(ms_edges, ms_ids, num_levels=self.num_mesh_levels, pos=pos)
        # In each call, as gradients may flow to the positions; it costs little beside the network.
        hierarchy = make_hierarchy(pos, graphs, ids)
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
        check_input(graph.pos, layout, self.device_buffer, name="pos", numbers="floating")
        return graph.pos


def _read_levels(
    ms_edges: Sequence[Tensor | Graph], ms_ids: Sequence[Tensor], *, num_levels: int, pos: Tensor
) -> tuple[list[Graph], list[Tensor]]:
    """Check the coarser graphs, and return them on the device of the positions."""
    for name, levels in (("ms_edges", ms_edges), ("ms_ids", ms_ids)):
        if not hasattr(levels, "__len__") or (isinstance(levels, Tensor) and not levels.ndim):
            raise TypeError(
                f"expected {name} to be a list of one for each level, got {type(levels).__name__}"
            )
    if len(ms_edges) != num_levels + 1 or len(ms_ids) != num_levels:
        raise ValueError(
            f"expected {num_levels + 1} ms_edges and {num_levels} ms_ids for "
            f"num_mesh_levels={num_levels}, got {len(ms_edges)} and {len(ms_ids)}; make them by "
            f"bistride_levels(edge_index, num_nodes, {num_levels})"
        )
    sizes = [pos.shape[0]]
    ids = []
    for level, nodes in enumerate(ms_ids):
        name = f"ms_ids[{level}]"
        _check_has_values(nodes, name, pos)
        ids.append(_read_ids(nodes, sizes[-1], name).to(pos.device))
        sizes.append(ids[-1].shape[0])
    graphs = []
    for level, (edges, size) in enumerate(zip(ms_edges, sizes, strict=True)):
        name = f"ms_edges[{level}]"
        _check_has_values(edges, name, pos)
        graphs.append(_read_edges(edges, size, name).to(pos.device))
    return graphs, ids


def _check_has_values(given: object, name: str, pos: Tensor) -> None:
    """Raise an error for a tensor on the meta device, unless the positions are there too."""
    if isinstance(given, Tensor) and given.is_meta and not pos.is_meta:
        raise ValueError(
            f"expected {name} on a device with numbers, as {pos.device}, got a tensor on the meta "
            f"device"
        )


def _read_edges(edges: Tensor | Graph, num_nodes: int, name: str) -> Graph:
    if not isinstance(edges, Graph):
        check_dense(edges, name)
        rows = edges.squeeze(0) if edges.ndim == 3 else edges
        check_edges(rows, name)
        return Graph(rows, num_nodes)
    edges = as_graph(edges)
    if (edges.num_nodes, edges.num_targets) != (num_nodes, num_nodes):
        raise ValueError(
            f"expected {name} to have {num_nodes} nodes, as many as are kept of the graph before, "
            f"got a graph of {edges.num_nodes}"
        )
    return edges


def _read_ids(ids: Tensor, num_nodes: int, name: str) -> Tensor:
    check_dense(ids, name)
    rows = ids.squeeze(0) if ids.ndim == 2 else ids
    if rows.ndim != 1 or rows.dtype not in INTEGERS:
        raise ValueError(
            f"expected {name} to hold integers of shape (nodes,), got {rows.dtype} of shape "
            f"{tuple(rows.shape)}"
        )
    if rows.numel() and can_read(ids):
        # Inference tensors have no version: they are read once, unless memory is shared.
        state = (None if ids.is_inference() else ids._version, num_nodes)
        if may_change_unseen(ids) or _validated.get(ids) != state:
            _check_distinct(rows, num_nodes, name)
            _validated[ids] = state
    return rows.long()


def _check_distinct(ids: Tensor, num_nodes: int, name: str) -> None:
    ordered = ids.sort().values
    if ordered[0] < 0 or ordered[-1] >= num_nodes or not (ordered.diff() > 0).all():
        raise ValueError(
            f"expected {name} to name different nodes from 0 to {num_nodes - 1}, got "
            f"{ids.shape[0]} from {ordered[0]} to {ordered[-1]}"
        )
