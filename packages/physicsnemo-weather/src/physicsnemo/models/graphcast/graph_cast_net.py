# SPDX-License-Identifier: Apache-2.0
"""GraphCast: an encoder to an icosahedral mesh, a processor on it, and a decoder to the grid."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers import Graph, MeshGraphDecoder, MeshGraphEncoder, MeshGraphMLP
from physicsnemo.models.graphcast._arguments import (
    check_dims,
    check_origin,
    check_partition,
    check_processor,
    get_lat_lon_partition_separators,
)
from physicsnemo.models.graphcast._buffers import (
    Constants,
    GraphBuffers,
    graph_tensors,
    restore_constants,
)
from physicsnemo.models.graphcast.graph_cast_processor import (
    GraphCastProcessor,
    GraphCastProcessorGraphTransformer,
)
from physicsnemo.models.graphcast.graphs import (
    GraphCastGraphs,
    build_graphs,
    check_sizes,
    features_of,
    graph_chunks,
)
from physicsnemo.models.graphcast.icosahedral_mesh import mesh_within_hops
from physicsnemo.models.history import Argument
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn import get_activation
from physicsnemo.nn.checkpointing import maybe_checkpoint
from physicsnemo.nn.checks import check_at_least, check_input
from physicsnemo.nn.numerics import PAPER, check_numerics, implied
from physicsnemo.nn.precision import at_least_float32

__all__ = ["GraphCastNet", "MetaData", "get_lat_lon_partition_separators"]

_GRAPHS = ("g2m", "mesh", "m2g")


@dataclass
class MetaData(ModelMetaData):
    """What :class:`GraphCastNet` supports."""

    name: str = "GraphCastNet"
    cuda_graphs: bool = True
    amp_gpu: bool | None = True
    bf16: bool = True


class GraphCastNet(Module):
    """GraphCast: an encoder to an icosahedral mesh, a processor on it, and a decoder to the grid.

    The encoder passes messages from grid points to the mesh vertices near them. The processor
    passes messages along the edges of the multimesh, which includes those of all coarser levels, or
    lets vertices attend to each other. The decoder passes messages from the three vertices of the
    triangle around each grid point to the point. Latitudes run from the south pole to the north
    pole, longitudes eastward from one step east of the date line.

    Vertex features are sine of latitude, and sine and cosine of longitude. Where the supplement of
    Lam et al. 2023 says "cosine of the latitude", the authors' code has the cosine of the angle
    from the north pole; the cosine of the latitude would not tell a vertex from its mirror image on
    the other hemisphere.

    The graphs depend on the arguments alone. They are non-persistent buffers, built once for all
    models of a process; those of level 6 and 721 x 1440 points take some seconds (see
    :func:`graph_cache` for a cache in files). Edge and vertex features are computed in double
    precision and have the dtype of the model, but at least single precision; they have their values
    after ``to_empty`` too.

    Parameters
    ----------
    mesh_level
        Number of refinements of the icosahedron: at most 8, or 6 with ``GraphTransformer``.
    multimesh_level
        Deprecated name of ``mesh_level``, which it overrides.
    multimesh
        Whether the mesh includes the edges of all coarser levels.
    input_res
        Number of latitudes and of longitudes, at most 2**22 points in all (see
        :func:`build_graphs` for more).
    input_dim_grid_nodes
        Number of input fields, including static ones.
    input_dim_mesh_nodes, input_dim_edges
        Number of vertex features and of edge features: 3 and 4, which the graphs determine.
    output_dim_grid_nodes
        Number of output fields.
    processor_type
        Processor: ``MessagePassing``; or ``GraphTransformer``, as in GenCast.
    khop_neighbors
        With ``GraphTransformer``, the attention radius of a vertex in edges.
    num_attention_heads
        With ``GraphTransformer``, the number of attention heads, which must divide ``hidden_dim``.
    processor_layers
        Number of message-passing steps or transformer layers, at least 3.
    hidden_layers
        Number of hidden layers of each MLP; 0 counts as 1, as in nvidia-physicsnemo.
    hidden_dim
        Number of node features and of edge features within the network.
    aggregation
        ``sum`` or ``mean`` of the messages of a node's incoming edges.
    activation_fn
        Activation of all MLPs, by name (:func:`physicsnemo.nn.get_activation`).
    norm_type
        Normalization: ``LayerNorm``; ``TELayerNorm`` computes the same.
    use_cugraphops_encoder, use_cugraphops_processor, use_cugraphops_decoder
        Ignored, with a warning; there are no such kernels, and the results are the same.
    do_concat_trick
        Store the first weight of each edge MLP as three, under names of their own. Features are
        never concatenated, with or without it.
    recompute_activation
        Activation checkpointing of every MLP.
    partition_size
        Number of processes that the graphs are partitioned over. Greater numbers than 1 are taken
        for 1, with a warning; the results are the same. Any number of processes shares the graphs
        after ``physicsnemo.distributed.distribute``.
    partition_group_name, use_lat_lon_partitioning, expect_partitioned_input, \
global_features_on_rank_0, produce_aggregated_output, produce_aggregated_output_on_all_ranks
        Options of partitioned graphs, ignored.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` to compute what those releases of
        nvidia-physicsnemo do, as their files imply. Here they all do the same. Messages on the mesh
        are the updated edge features, instead of the outputs of the edge MLPs. Vertex features are
        cosine of latitude, and sine and cosine of longitude, of degrees taken for radians. Grid
        points are joined to the corners of the triangle, of any level, whose centroid is nearest,
        which need not contain them. And angles of the grid are rounded to single precision, which
        puts points at the poles a little beyond them, with east and north reversed.

    Raises
    ------
    KeyError
        If the activation is unknown.
    TypeError
        If a number has another type.
    ValueError
        If another argument has a value that is not described above.

    References
    ----------
    Lam et al. 2023, GraphCast: learning skillful medium-range global weather forecasting,
    arXiv:2212.12794; Keisler 2022, arXiv:2202.07575 (a grid and a mesh of the sphere); Pfaff et
    al. 2021, arXiv:2010.03409 (messages); Fortunato et al. 2022, arXiv:2210.00612 (several
    levels); Price et al. 2023, GenCast, arXiv:2312.15796 (attention).

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.graphcast import GraphCastNet
    >>> model = GraphCastNet(
    ...     mesh_level=1, input_res=(10, 20), input_dim_grid_nodes=2, output_dim_grid_nodes=2,
    ...     processor_layers=3, hidden_dim=4,
    ... )
    >>> model(torch.randn(1, 2, 10, 20)).shape
    torch.Size([1, 2, 10, 20])
    """

    _implied_args = implied("degrees_as_radians", "nearest_centroid", "residual_before_sum")
    _argument_history = (
        Argument("multimesh_level", None, until="2.0"),
        Argument("graph_backend", "pyg", since="1.3", ignored=("dgl",)),
    )

    mesh_ndata: Tensor
    mesh_edata: Tensor
    g2m_edata: Tensor
    m2g_edata: Tensor
    g2m_graph: GraphBuffers
    mesh_graph: GraphBuffers
    m2g_graph: GraphBuffers
    g2m_chunks: nn.ModuleList
    m2g_chunks: nn.ModuleList
    _graphs: Callable[[], GraphCastGraphs]
    _attention_mask: Callable[[], Tensor | None]

    def __init__(
        self,
        mesh_level: int = 6,
        multimesh_level: int | None = None,
        multimesh: bool = True,
        input_res: Sequence[int] = (721, 1440),
        input_dim_grid_nodes: int = 474,
        input_dim_mesh_nodes: int = 3,
        input_dim_edges: int = 4,
        output_dim_grid_nodes: int = 227,
        processor_type: str = "MessagePassing",
        khop_neighbors: int = 32,
        num_attention_heads: int = 4,
        processor_layers: int = 16,
        hidden_layers: int = 1,
        hidden_dim: int = 512,
        aggregation: str = "sum",
        activation_fn: str = "silu",
        norm_type: str = "LayerNorm",
        use_cugraphops_encoder: bool = False,
        use_cugraphops_processor: bool = False,
        use_cugraphops_decoder: bool = False,
        do_concat_trick: bool = False,
        recompute_activation: bool = False,
        partition_size: int = 1,
        partition_group_name: str | None = None,
        use_lat_lon_partitioning: bool = False,
        expect_partitioned_input: bool = False,
        global_features_on_rank_0: bool = False,
        produce_aggregated_output: bool = True,
        produce_aggregated_output_on_all_ranks: bool = True,
        numerics: str = PAPER,
    ) -> None:
        super().__init__(meta=MetaData())
        check_partition(partition_size, expect_partitioned_input, global_features_on_rank_0)
        if multimesh_level is not None:
            message = "multimesh_level is deprecated; pass it as mesh_level"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            mesh_level = multimesh_level
        if use_cugraphops_encoder or use_cugraphops_processor or use_cugraphops_decoder:
            message = "kernels of cugraph-ops are asked for; those of PyTorch compute the same"
            warnings.warn(message, stacklevel=2)
        check_dims(
            input_dim_mesh_nodes=input_dim_mesh_nodes,
            input_dim_edges=input_dim_edges,
            processor_layers=processor_layers,
            hidden_layers=hidden_layers,
        )
        check_processor(processor_type, khop_neighbors, mesh_level)
        check_at_least(1, hidden_dim=hidden_dim, input_dim_grid_nodes=input_dim_grid_nodes)
        check_at_least(1, output_dim_grid_nodes=output_dim_grid_nodes)
        # Before anything is built whose size depends on them.
        self.input_res = check_sizes(mesh_level, input_res)
        check_numerics(numerics)
        self.input_dim_grid_nodes = input_dim_grid_nodes
        self._mesh_level = mesh_level
        self._passes_messages = processor_type == "MessagePassing"
        self._input_options = {
            "expect_partitioned_input": expect_partitioned_input,
            "global_features_on_rank_0": global_features_on_rank_0,
        }
        self._output_options = {
            "produce_aggregated_output": produce_aggregated_output,
            "produce_aggregated_output_on_all_ranks": produce_aggregated_output_on_all_ranks,
        }

        # One module for all MLPs: an activation with weights has one set of them in files.
        activation = get_activation(activation_fn)
        mlp_options: dict[str, Any] = {
            "hidden_dim": hidden_dim,
            "hidden_layers": hidden_layers,
            "activation_fn": activation,
            "norm_type": norm_type,
            "recompute_activation": recompute_activation,
        }

        def embed(features: int) -> MeshGraphMLP:
            return MeshGraphMLP(features, output_dim=hidden_dim, **mlp_options)

        self.encoder_embedder = nn.ModuleDict(
            {
                "grid_node_mlp": embed(input_dim_grid_nodes),
                "mesh_node_mlp": embed(input_dim_mesh_nodes),
                "mesh_edge_mlp": embed(input_dim_edges),
                "grid2mesh_edge_mlp": embed(input_dim_edges),
            }
        )
        self.decoder_embedder = nn.ModuleDict({"mesh2grid_edge_mlp": embed(input_dim_edges)})
        step_options = mlp_options | {"do_concat_trick": do_concat_trick}
        self.encoder = MeshGraphEncoder(
            aggregation,
            input_dim_src_nodes=hidden_dim,
            input_dim_dst_nodes=hidden_dim,
            input_dim_edges=hidden_dim,
            output_dim_src_nodes=hidden_dim,
            output_dim_dst_nodes=hidden_dim,
            output_dim_edges=hidden_dim,
            **step_options,
        )
        self.processor_encoder: nn.Module = nn.Identity()
        self.processor: GraphCastProcessor | GraphCastProcessorGraphTransformer
        self.processor_decoder: nn.Module = nn.Identity()
        if self._passes_messages:
            self.processor_encoder, self.processor, self.processor_decoder = (
                GraphCastProcessor(
                    aggregation,
                    processor_layers=layers,
                    input_dim_nodes=hidden_dim,
                    input_dim_edges=hidden_dim,
                    numerics=numerics,
                    **step_options,
                )
                for layers in (1, processor_layers - 2, 1)
            )
        else:
            self._attention_mask = partial(
                mesh_within_hops, mesh_level, multimesh=multimesh, hops=khop_neighbors
            )
            self.processor = GraphCastProcessorGraphTransformer(
                self._attention_mask(),
                num_attention_heads=num_attention_heads,
                processor_layers=processor_layers,
                hidden_dim=hidden_dim,
            )
        self.decoder = MeshGraphDecoder(
            aggregation,
            input_dim_src_nodes=hidden_dim,
            input_dim_dst_nodes=hidden_dim,
            input_dim_edges=hidden_dim,
            output_dim_dst_nodes=hidden_dim,
            output_dim_edges=hidden_dim,
            **step_options,
        )
        self.finale = MeshGraphMLP(
            hidden_dim, output_dim=output_dim_grid_nodes, **mlp_options | {"norm_type": None}
        )
        # The graphs take longest, so they come after whatever may raise an error.
        self._graphs = partial(
            build_graphs, mesh_level, self.input_res, multimesh=multimesh, numerics=numerics
        )
        self._register(self._graphs(), at_least_float32(torch.get_default_dtype()))
        self.set_checkpoint_model(False)
        self.set_checkpoint_encoder(False)
        self.set_checkpoint_decoder(False)

    def forward(self, grid_nfeat: Tensor) -> Tensor:
        """Compute the output fields of one sample.

        Parameters
        ----------
        grid_nfeat
            Input fields, of shape (1, input_dim_grid_nodes, *input_res).

        Returns
        -------
        Output fields, of shape (1, output_dim_grid_nodes, *input_res).

        Raises
        ------
        TypeError
            If ``grid_nfeat`` is not floating-point.
        ValueError
            If its shape or device does not fit.
        """
        x = self.prepare_input(grid_nfeat, **self._input_options)
        # Only the transformer has dropout, which must draw the same numbers when it is recomputed.
        random = self.training and not self._passes_messages
        x = maybe_checkpoint(
            self.custom_forward, self._recomputes_model, x, preserve_rng_state=random
        )
        return self.prepare_output(x, **self._output_options)

    def prepare_input(
        self,
        invar: Tensor,
        expect_partitioned_input: bool = False,
        global_features_on_rank_0: bool = False,
    ) -> Tensor:
        """Reshape input fields to grid features.

        Parameters
        ----------
        invar
            Input fields, of shape (1, input_dim_grid_nodes, *input_res).
        expect_partitioned_input, global_features_on_rank_0
            Ignored in one process; not both may be set.

        Returns
        -------
        Grid features, of shape (points, input_dim_grid_nodes).
        """
        check_origin(expect_partitioned_input, global_features_on_rank_0)
        height, width = self.input_res
        layout = {"batch": 1, "input_dim_grid_nodes": self.input_dim_grid_nodes}
        layout |= {"input_res[0]": height, "input_res[1]": width}
        check_input(invar, layout, next(self.parameters()))
        return invar[0].flatten(1).T  # row by row, as the graphs number the points

    def prepare_output(
        self,
        outvar: Tensor,
        produce_aggregated_output: bool = True,
        produce_aggregated_output_on_all_ranks: bool = True,
    ) -> Tensor:
        """Reshape grid features to output fields of shape (1, fields, *input_res).

        Parameters
        ----------
        outvar
            Grid features, of shape (points, fields).
        produce_aggregated_output, produce_aggregated_output_on_all_ranks
            Ignored in one process.
        """
        return outvar.T.reshape(1, outvar.shape[1], *self.input_res)

    def custom_forward(self, grid_nfeat: Tensor) -> Tensor:
        """Apply the model to grid features of shape (points, fields)."""
        efeat, nfeat, grid_nfeat = maybe_checkpoint(
            self.encoder_forward, self._recomputes_encoder, grid_nfeat
        )
        efeat, nfeat = self._process(self.processor, efeat, nfeat)
        return maybe_checkpoint(
            self.decoder_forward, self._recomputes_decoder, efeat, nfeat, grid_nfeat
        )

    def encoder_forward(self, grid_nfeat: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Embed all features, encode the grid to the mesh, and take the processor's first step.

        Parameters
        ----------
        grid_nfeat
            Grid features, of shape (points, input_dim_grid_nodes).

        Returns
        -------
        Mesh edge features (None with ``GraphTransformer``), vertex features and grid features.
        """
        nfeat = self.encoder_embedder["mesh_node_mlp"](self._features("mesh_ndata"))
        chunked = len(self.g2m_chunks) > 0  # Dynamo knows no truth of a list of modules
        encode = self._encode_chunks if chunked else self._encode
        grid_nfeat, nfeat = encode(grid_nfeat, nfeat)
        efeat, nfeat = maybe_checkpoint(self._first_step, chunked, nfeat)
        return efeat, nfeat, grid_nfeat

    def _encode(self, grid_nfeat: Tensor, nfeat: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the grid features, and encode them to the mesh."""
        embedder = self.encoder_embedder
        grid_nfeat = embedder["grid_node_mlp"](grid_nfeat)
        g2m = embedder["grid2mesh_edge_mlp"](self._features("g2m_edata"))
        encoded: tuple[Tensor, Tensor] = self.encoder(g2m, grid_nfeat, nfeat, self.g2m_graph())
        return encoded

    def _encode_chunks(self, grid_nfeat: Tensor, nfeat: Tensor) -> tuple[Tensor, Tensor]:
        """Do what :meth:`_encode` does, some points after the others."""

        def encode(edata: Tensor, points: Tensor, nfeat: Tensor, graph: Graph) -> Any:
            points = self.encoder_embedder["grid_node_mlp"](points)
            g2m = self.encoder_embedder["grid2mesh_edge_mlp"](edata)
            sums = self.encoder.sum_messages(g2m, points, nfeat, graph)
            return self.encoder.update_grid(points), sums

        graphs = [chunk() for chunk in self.g2m_chunks]
        edges = self._features("g2m_edata").split([graph.num_edges for graph in graphs])
        points = grid_nfeat.split([graph.num_nodes for graph in graphs])
        grid, sums = zip(
            *(
                maybe_checkpoint(encode, True, edata, some, nfeat, graph)
                for edata, some, graph in zip(edges, points, graphs, strict=True)
            ),
            strict=True,
        )
        return torch.cat(grid), self.encoder.update_mesh(sum(sums), nfeat, self.g2m_graph())

    def _first_step(self, nfeat: Tensor) -> tuple[Tensor | None, Tensor]:
        """Embed the features of mesh edges, and take the processor's first step."""
        efeat = (
            self.encoder_embedder["mesh_edge_mlp"](self._features("mesh_edata"))
            if self._passes_messages
            else None
        )
        return self._process(self.processor_encoder, efeat, nfeat)

    def decoder_forward(
        self, mesh_efeat: Tensor | None, mesh_nfeat: Tensor, grid_nfeat: Tensor
    ) -> Tensor:
        """Take the processor's last step, and decode the mesh to the grid.

        Parameters
        ----------
        mesh_efeat, mesh_nfeat
            Mesh edge features and vertex features, after the processor.
        grid_nfeat
            Grid features, of :meth:`encoder_forward`.

        Returns
        -------
        Output fields, of shape (points, output_dim_grid_nodes).
        """
        chunked = len(self.m2g_chunks) > 0
        _, nfeat = maybe_checkpoint(
            self._process, chunked, self.processor_decoder, mesh_efeat, mesh_nfeat
        )
        edata = self._features("m2g_edata")
        if not chunked:
            return self._decode(edata, nfeat, grid_nfeat, self.m2g_graph())
        graphs = [chunk() for chunk in self.m2g_chunks]
        edges = edata.split([graph.num_edges for graph in graphs])
        points = grid_nfeat.split([graph.target.num_nodes for graph in graphs])
        return torch.cat(
            [
                maybe_checkpoint(self._decode, True, edata, nfeat, some, graph)
                for edata, some, graph in zip(edges, points, graphs, strict=True)
            ]
        )

    def _decode(self, edata: Tensor, nfeat: Tensor, grid_nfeat: Tensor, graph: Graph) -> Tensor:
        """Decode the mesh to points of the grid."""
        m2g = self.decoder_embedder["mesh2grid_edge_mlp"](edata)
        output: Tensor = self.finale(self.decoder(m2g, grid_nfeat, nfeat, graph))
        return output

    def set_checkpoint_model(self, checkpoint_flag: bool) -> None:
        """Switch activation checkpointing of the whole model, which turns off that of its parts."""
        self._recomputes_model = checkpoint_flag
        if checkpoint_flag:
            self.set_checkpoint_encoder(False)
            self.set_checkpoint_processor(0)
            self.set_checkpoint_decoder(False)

    def set_checkpoint_processor(self, checkpoint_segments: int) -> None:
        """Set the number of segments for activation checkpointing of the processor; 0 for none.

        It must divide the number of blocks, ``2 * (processor_layers - 2)``, or of transformer
        layers.
        """
        self.processor.set_checkpoint_segments(checkpoint_segments)

    def set_checkpoint_encoder(self, checkpoint_flag: bool, chunks: int = 1) -> None:
        """Switch activation checkpointing of the encoder.

        Parameters
        ----------
        checkpoint_flag
            Whether to recompute it in the backward pass.
        chunks
            In how many parts of the grid: at any time, the activations of one of them are in
            memory.

        Raises
        ------
        NotImplementedError
            If there are several, and the model's graphs are divided over processes.
        """
        self._set_chunks("g2m", chunks if checkpoint_flag else 1)
        self._recomputes_encoder = checkpoint_flag and not self.g2m_chunks

    def set_checkpoint_decoder(self, checkpoint_flag: bool, chunks: int = 1) -> None:
        """Switch activation checkpointing of the decoder; see :meth:`set_checkpoint_encoder`."""
        self._set_chunks("m2g", chunks if checkpoint_flag else 1)
        self._recomputes_decoder = checkpoint_flag and not self.m2g_chunks

    def _process(
        self, processor: nn.Module, efeat: Tensor | None, nfeat: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """Apply the processor, or its first or last step."""
        if efeat is None:
            return None, processor(nfeat)
        processed: tuple[Tensor, Tensor] = processor(efeat, nfeat, self.mesh_graph())
        return processed

    def _register(self, graphs: GraphCastGraphs, dtype: torch.dtype) -> None:
        """Register graphs and features as non-persistent buffers."""
        for name in _GRAPHS:
            self.add_module(f"{name}_graph", GraphBuffers(getattr(graphs, name)))
        for name, tensor in features_of(graphs, dtype).items():
            tensor = tensor.to(torch.get_default_device())
            self.register_buffer(name, tensor, persistent=False)
        self._list_constants()

    def _list_constants(self) -> None:
        # DistributedDataParallel broadcasts buffers in each step; these are large, and equal in all
        # processes.
        names = [name for name, _ in self.named_buffers() if name != "device_buffer"]
        self._ddp_params_and_buffers_to_ignore = names

    def _set_chunks(self, name: str, chunks: int) -> None:
        """Divide a graph into parts of the grid, or leave it whole."""
        check_at_least(1, chunks=chunks)
        parts = self._divided(name, chunks) if chunks > 1 else []
        with torch.device(self.mesh_ndata.device):
            self.add_module(f"{name}_chunks", nn.ModuleList(map(GraphBuffers, parts)))
        self._list_constants()

    def _divided(self, name: str, chunks: int) -> list[Graph]:
        graph = getattr(self._graphs(), name)
        if not isinstance(graph, Graph):
            raise NotImplementedError(
                f"expected chunks=1 for a model that processes share, got {chunks}; use more "
                f"processes instead"
            )
        with torch.device("cpu"):  # as the graph
            return graph_chunks(graph, graph.source if name == "g2m" else graph.target, chunks)

    def _constants(self) -> Constants:
        """Make the values of all non-persistent buffers."""
        graphs = self._graphs()
        constants = dict(features_of(graphs, torch.float64))
        for name in _GRAPHS:
            tensors = graph_tensors(getattr(graphs, name))
            constants |= {f"{name}_graph.{key}": tensor for key, tensor in tensors.items()}
        for name in ("g2m", "m2g"):
            count = len(getattr(self, f"{name}_chunks"))
            for index, part in enumerate(self._divided(name, count) if count else []):
                tensors = graph_tensors(part)
                constants |= {f"{name}_chunks.{index}.{key}": it for key, it in tensors.items()}
        mask = None if self._passes_messages else self._attention_mask()
        return constants if mask is None else constants | {"processor.mask": mask}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        apply: Callable[[], Any] = partial(super()._apply, fn, recurse)
        restore_constants(
            self, self._ddp_params_and_buffers_to_ignore, apply=apply, make=self._constants
        )
        return self

    def _features(self, name: str) -> Tensor:
        """Return the features of a buffer in the dtype of the weights."""
        features: Tensor = getattr(self, name)
        return features.to(next(self.parameters()).dtype)
