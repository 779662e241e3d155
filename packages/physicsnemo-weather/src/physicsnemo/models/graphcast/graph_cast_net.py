# SPDX-License-Identifier: Apache-2.0
"""GraphCast, for fields on a grid of latitudes and longitudes."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from physicsnemo.models.gnn_layers import MeshGraphDecoder, MeshGraphEncoder, MeshGraphMLP
from physicsnemo.models.graphcast._arguments import check_dims, check_processor
from physicsnemo.models.graphcast._buffers import (
    Constants,
    GraphBuffers,
    graph_tensors,
    keep_constants,
)
from physicsnemo.models.graphcast._hops import mesh_within_hops
from physicsnemo.models.graphcast._partition import (
    check_origin,
    check_partition,
    get_lat_lon_partition_separators,
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
)
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
    """GraphCast: a graph network that brings fields to a mesh of triangles, works there, and back.

    Each point of the grid sends its features to the vertices of an icosahedral mesh that are
    close. On the mesh, messages are passed along its edges, of which there are long ones too: those
    of all coarser meshes; or, instead, vertices attend to each other. At last each point of the
    grid gets features from the three vertices around it. The fields' first latitude is the south
    pole and the last the north pole; longitudes begin one step east of the date line.

    Features of vertices are sine of latitude, and sine and cosine of longitude. Where the
    supplement of Lam et al. 2023 says "cosine of the latitude", the authors' code has the cosine of
    the angle from the north pole; the cosine of the latitude would not tell a vertex from its
    mirror image on the other hemisphere.

    The graphs depend on the arguments alone. They move with the model, are in no checkpoint, and
    are made once for all models of a process; those of level 6 and 721 x 1440 points take some
    seconds (see :func:`graph_cache` to keep them). Their features are made in double precision and
    have the type of the model, but no less than single precision; after ``to_empty`` they are there
    again.

    Parameters
    ----------
    mesh_level
        How often the faces of an icosahedron are divided into four; at most 8, or 6 with
        ``GraphTransformer``.
    multimesh_level
        Former name of ``mesh_level``, which it replaces if it is given; deprecated.
    multimesh
        Whether the mesh also has the edges of all coarser levels.
    input_res
        Number of latitudes and of longitudes; together at most 2**22 points (see
        :func:`build_graphs` for more).
    input_dim_grid_nodes
        Number of fields of the input, those that do not change included.
    input_dim_mesh_nodes, input_dim_edges
        Number of features of vertices and edges: 3 and 4, as these are made of where they are.
    output_dim_grid_nodes
        Number of fields of the output.
    processor_type
        ``MessagePassing``; or ``GraphTransformer``, as in GenCast.
    khop_neighbors
        With ``GraphTransformer``: vertices attend to those so many edges away.
    num_attention_heads
        With ``GraphTransformer``: number of heads; it must divide ``hidden_dim``.
    processor_layers
        Number of steps of message passing, or layers of attention; at least 3.
    hidden_layers
        Number of hidden layers of each perceptron; 0 is taken for 1, as in nvidia-physicsnemo.
    hidden_dim
        Number of features of nodes and edges within the network.
    aggregation
        ``sum`` or ``mean`` of the features of the edges that enter a node.
    activation_fn
        Name of the activation of all perceptrons (:func:`physicsnemo.nn.get_activation`).
    norm_type
        ``LayerNorm``; or ``TELayerNorm``, which computes the same.
    use_cugraphops_encoder, use_cugraphops_processor, use_cugraphops_decoder
        Have no effect, as there are no such kernels here; what is computed is the same.
    do_concat_trick
        Keep the first weight of each edge perceptron as three, under names of their own. It is
        never multiplied with joined features, whether or not it is one.
    recompute_activation
        Keep of every perceptron only its input for the backward pass, and compute the rest again.
    partition_size
        Number of processes that share the graphs. One has them all here, with a warning where the
        number is greater; what is computed is the same.
    partition_group_name, use_lat_lon_partitioning, expect_partitioned_input, \
global_features_on_rank_0, produce_aggregated_output, produce_aggregated_output_on_all_ranks
        About several processes, without effect in one.
    numerics
        ``paper``, or ``reference-1.2`` to ``reference-2.2`` for what those releases of
        nvidia-physicsnemo compute, as files of theirs mean it. They do the same here: on the mesh,
        vertices get the features of edges after these were updated, instead of what the
        perceptrons return; features of vertices are cosine of latitude, and sine and cosine of
        longitude, of degrees as if these were radians; points of the grid get features from the
        corners of the triangle, of any level, whose centroid is nearest, which need not be around
        them; and angles of the grid are rounded to single precision, so that points at the poles
        are a little beyond them, and east and north at these west and south.

    Raises
    ------
    KeyError
        If there is no activation of that name.
    TypeError
        If a number is something else.
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
        check_dims(input_dim_mesh_nodes, input_dim_edges, processor_layers, hidden_layers)
        check_processor(processor_type, khop_neighbors, mesh_level)
        check_at_least(1, hidden_dim=hidden_dim, input_dim_grid_nodes=input_dim_grid_nodes)
        check_at_least(1, output_dim_grid_nodes=output_dim_grid_nodes)
        # Before anything is made whose size they are.
        self.input_res = check_sizes(mesh_level, input_res)
        check_numerics(numerics)
        self.input_dim_grid_nodes = input_dim_grid_nodes
        self._passes_messages = processor_type == "MessagePassing"
        self._origin = (expect_partitioned_input, global_features_on_rank_0)
        self._destination = (produce_aggregated_output, produce_aggregated_output_on_all_ranks)

        activation = get_activation(activation_fn)  # one for all, as weights in files have it
        shape = (hidden_dim, hidden_layers, activation, norm_type)

        def embed(features: int) -> MeshGraphMLP:
            return MeshGraphMLP(features, hidden_dim, *shape, recompute_activation)

        self.encoder_embedder = nn.ModuleDict(
            {
                "grid_node_mlp": embed(input_dim_grid_nodes),
                "mesh_node_mlp": embed(input_dim_mesh_nodes),
                "mesh_edge_mlp": embed(input_dim_edges),
                "grid2mesh_edge_mlp": embed(input_dim_edges),
            }
        )
        self.decoder_embedder = nn.ModuleDict({"mesh2grid_edge_mlp": embed(input_dim_edges)})
        options = (*shape, do_concat_trick, recompute_activation)
        dim = hidden_dim
        self.encoder = MeshGraphEncoder(aggregation, dim, dim, dim, dim, dim, dim, *options)
        self.processor_encoder: nn.Module = nn.Identity()
        self.processor: GraphCastProcessor | GraphCastProcessorGraphTransformer
        self.processor_decoder: nn.Module = nn.Identity()
        if self._passes_messages:
            self.processor_encoder, self.processor, self.processor_decoder = (
                GraphCastProcessor(aggregation, layers, dim, dim, *options, numerics=numerics)
                for layers in (1, processor_layers - 2, 1)
            )
        else:
            self._hops = partial(mesh_within_hops, mesh_level, multimesh, khop_neighbors)
            self.processor = GraphCastProcessorGraphTransformer(
                self._hops(), num_attention_heads, processor_layers, hidden_dim
            )
        self.decoder = MeshGraphDecoder(aggregation, dim, dim, dim, dim, dim, *options)
        self.finale = MeshGraphMLP(
            hidden_dim,
            output_dim_grid_nodes,
            hidden_dim,
            hidden_layers,
            activation,
            None,
            recompute_activation,
        )
        # What takes longest comes last, behind all that may be wrong with other arguments.
        self._graphs = partial(build_graphs, mesh_level, self.input_res, multimesh, numerics)
        self._register(self._graphs())
        self.set_checkpoint_model(False)
        self.set_checkpoint_encoder(False)
        self.set_checkpoint_decoder(False)

    def forward(self, grid_nfeat: Tensor) -> Tensor:
        """Compute the fields of the output.

        Parameters
        ----------
        grid_nfeat
            Fields of shape (1, input_dim_grid_nodes, *input_res).

        Returns
        -------
        Fields of shape (1, output_dim_grid_nodes, *input_res).

        Raises
        ------
        TypeError
            If ``grid_nfeat`` does not hold floating-point numbers.
        ValueError
            If it has another shape or device than expected; there is one sample a call.
        """
        x = self.prepare_input(grid_nfeat, *self._origin)
        random = self.training and not self._passes_messages
        x = maybe_checkpoint(
            self.custom_forward, self._recomputes_model, x, preserve_rng_state=random
        )
        return self.prepare_output(x, *self._destination)

    def prepare_input(
        self,
        invar: Tensor,
        expect_partitioned_input: bool = False,
        global_features_on_rank_0: bool = False,
    ) -> Tensor:
        """Return fields of shape (1, input_dim_grid_nodes, *input_res) as features of points.

        Parameters
        ----------
        invar
            The fields.
        expect_partitioned_input, global_features_on_rank_0
            Without effect in one process; not both.

        Returns
        -------
        Features of shape (points, input_dim_grid_nodes).
        """
        check_origin(expect_partitioned_input, global_features_on_rank_0)
        height, width = self.input_res
        layout = {"batch": 1, "input_dim_grid_nodes": self.input_dim_grid_nodes}
        layout |= {"input_res[0]": height, "input_res[1]": width}
        check_input(invar, layout, next(self.parameters()))
        return invar[0].flatten(1).T

    def prepare_output(
        self,
        outvar: Tensor,
        produce_aggregated_output: bool = True,
        produce_aggregated_output_on_all_ranks: bool = True,
    ) -> Tensor:
        """Return features of shape (points, fields) as fields of shape (1, fields, *input_res).

        Parameters
        ----------
        outvar
            The features.
        produce_aggregated_output, produce_aggregated_output_on_all_ranks
            Without effect in one process.
        """
        return outvar.T.reshape(1, outvar.shape[1], *self.input_res)

    def custom_forward(self, grid_nfeat: Tensor) -> Tensor:
        """Map features of points to features of points, of shape (points, fields)."""
        efeat, nfeat, grid_nfeat = maybe_checkpoint(
            self.encoder_forward, self._recomputes_encoder, grid_nfeat
        )
        efeat, nfeat = self._process(self.processor, efeat, nfeat)
        return maybe_checkpoint(
            self.decoder_forward, self._recomputes_decoder, efeat, nfeat, grid_nfeat
        )

    def encoder_forward(self, grid_nfeat: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Embed all features, bring those of the grid to the mesh, and pass messages once.

        Parameters
        ----------
        grid_nfeat
            Features of shape (points, input_dim_grid_nodes).

        Returns
        -------
        Features of the mesh's edges (None with ``GraphTransformer``), of its vertices, and of the
        points of the grid.
        """
        embedder = self.encoder_embedder
        grid_nfeat, nfeat = embedder["grid_node_mlp"](grid_nfeat), self._features("mesh_ndata")
        nfeat, g2m = embedder["mesh_node_mlp"](nfeat), self._features("g2m_edata")
        g2m = embedder["grid2mesh_edge_mlp"](g2m)
        grid_nfeat, nfeat = self.encoder(g2m, grid_nfeat, nfeat, self.g2m_graph())
        efeat = (
            embedder["mesh_edge_mlp"](self._features("mesh_edata"))
            if self._passes_messages
            else None
        )
        efeat, nfeat = self._process(self.processor_encoder, efeat, nfeat)
        return efeat, nfeat, grid_nfeat

    def decoder_forward(
        self, mesh_efeat: Tensor | None, mesh_nfeat: Tensor, grid_nfeat: Tensor
    ) -> Tensor:
        """Pass messages once, and bring the features of the mesh to the grid.

        Parameters
        ----------
        mesh_efeat, mesh_nfeat, grid_nfeat
            What :meth:`encoder_forward` returns, those of the mesh processed further.

        Returns
        -------
        Fields of shape (points, output_dim_grid_nodes).
        """
        _, nfeat = self._process(self.processor_decoder, mesh_efeat, mesh_nfeat)
        m2g = self.decoder_embedder["mesh2grid_edge_mlp"](self._features("m2g_edata"))
        output: Tensor = self.finale(self.decoder(m2g, grid_nfeat, nfeat, self.m2g_graph()))
        return output

    def set_checkpoint_model(self, checkpoint_flag: bool) -> None:
        """Keep only the input for the backward pass and compute all the rest again.

        Other switches are turned off when this one is turned on.
        """
        self._recomputes_model = checkpoint_flag
        if checkpoint_flag:
            self.set_checkpoint_encoder(False)
            self.set_checkpoint_processor(0)
            self.set_checkpoint_decoder(False)

    def set_checkpoint_processor(self, checkpoint_segments: int) -> None:
        """Keep only what goes into each of so many segments of the processor; 0 or -1 for none.

        It divides the number of layers, or of blocks for edges and for nodes, of which there are
        ``2 * (processor_layers - 2)``.
        """
        self.processor.set_checkpoint_segments(checkpoint_segments)

    def set_checkpoint_encoder(self, checkpoint_flag: bool) -> None:
        """Keep only what goes into the encoder."""
        self._recomputes_encoder = checkpoint_flag

    def set_checkpoint_decoder(self, checkpoint_flag: bool) -> None:
        """Keep only what goes into the decoder."""
        self._recomputes_decoder = checkpoint_flag

    def _process(
        self, processor: nn.Module, efeat: Tensor | None, nfeat: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """Apply a part of the processor."""
        if efeat is None:
            return None, processor(nfeat)
        processed: tuple[Tensor, Tensor] = processor(efeat, nfeat, self.mesh_graph())
        return processed

    def _register(self, graphs: GraphCastGraphs) -> None:
        """Make graphs a part of the model that is in no checkpoint."""
        for name in _GRAPHS:
            self.add_module(f"{name}_graph", GraphBuffers(getattr(graphs, name)))
        features = features_of(graphs, at_least_float32(torch.get_default_dtype()))
        for name, tensor in features.items():
            tensor = tensor.to(torch.get_default_device())
            self.register_buffer(name, tensor, persistent=False)
        # They are equal in all processes, and so large that sending them at each step would tell.
        names = [name for name, _ in self.named_buffers() if name != "device_buffer"]
        self._ddp_params_and_buffers_to_ignore = names

    def _constants(self) -> Constants:
        """Make all buffers but those in checkpoints."""
        graphs = self._graphs()
        constants = dict(features_of(graphs, torch.float64))
        for name in _GRAPHS:
            tensors = graph_tensors(getattr(graphs, name))
            constants |= {f"{name}_graph.{key}": tensor for key, tensor in tensors.items()}
        mask = None if self._passes_messages else self._hops()
        return constants if mask is None else constants | {"processor.mask": mask}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        apply: Callable[[], Any] = partial(super()._apply, fn, recurse)
        keep_constants(self, self._ddp_params_and_buffers_to_ignore, apply, self._constants)
        return self

    def _features(self, name: str) -> Tensor:
        """Return features of the type of the weights."""
        features: Tensor = getattr(self, name)
        return features.to(next(self.parameters()).dtype)
