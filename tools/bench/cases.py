# SPDX-License-Identifier: Apache-2.0
"""What is timed: models, their arguments, inputs and optimizers. A new benchmark is a line here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.utils import _pytree as pytree

from physicsnemo import Module
from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.meshgraphnet import bistride_levels
from physicsnemo.testing.case import Case, noise
from tools.bench.plain import PlainFNO
from tools.bench.unet import UNet


def _fused_adam(parameters: Iterable[Tensor]) -> Optimizer:
    return Adam(parameters, fused=True)


def _plain_meshgraphnet(model: Any) -> Module:
    from tools.bench.plain_graphs import PlainMeshGraphNet  # which needs PyTorch Geometric

    return PlainMeshGraphNet(model)


@dataclass(frozen=True)
class BenchCase(Case):
    """An example of a model, and the optimizer of its training step.

    Parameters
    ----------
    optimizer
        Makes an optimizer of a model's parameters.
    plain
        Makes of a model one with the same weights, computed in a straightforward way; None if
        there is none to compare with.
    """

    optimizer: Callable[[Iterable[Tensor]], Optimizer] = _fused_adam
    plain: Callable[[Any], Module] | None = None


def sizes(inputs: Any) -> list[str]:
    """Return the sizes of all tensors and graphs that a model is given."""
    leaves = pytree.tree_leaves(inputs, is_leaf=lambda it: isinstance(it, Graph))
    return [
        f"{it.num_nodes} nodes and {it.edge_index.shape[1]} edges"
        if isinstance(it, Graph)
        else "x".join(map(str, it.shape))
        for it in leaves
        if isinstance(it, (Graph, Tensor))
    ]


def in_noise(batch: int, channels: int, size: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes images, their noise levels, and no labels."""
    return lambda: (*noise(batch, channels, size, size)(), torch.linspace(-1, 1, batch), None)


def on_triangles(rows: int, columns: int, *features: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes features of nodes and edges, and a mesh of triangles.

    The mesh closes in itself, so that each of its rows x columns nodes has six neighbours. Nodes
    are numbered at random, edges in a random order, as the worst case for a cache.
    """

    def inputs() -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(0)
        nodes, edges = rows * columns, 6 * rows * columns
        row, column = torch.arange(nodes) // columns, torch.arange(nodes) % columns
        shifts = [(0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1)]
        ends = [(row + y) % rows * columns + (column + x) % columns for y, x in shifts]
        edge_index = torch.stack([torch.arange(nodes).repeat(6), torch.cat(ends)])
        edge_index = edge_index[:, torch.randperm(edges, generator=generator)]
        edge_index = torch.randperm(nodes, generator=generator)[edge_index]
        sizes = zip((nodes, edges), features, strict=True)
        values = (torch.randn(size, generator=generator) for size in sizes)
        return *values, Graph(edge_index, nodes)

    return inputs


def on_levels(rows: int, columns: int, *features: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes features, such a mesh in space, and its two coarser graphs."""

    def inputs() -> tuple[Any, ...]:
        nodes, edges, graph = on_triangles(rows, columns, *features)()
        (pos,) = noise(graph.num_nodes, 3)()
        levels = bistride_levels(graph.edge_index, graph.num_nodes, 2)
        return nodes, edges, Graph(graph.edge_index, graph.num_nodes, pos=pos), *levels

    return inputs


def to_points(
    samples: int, rows: int, columns: int, points: int, *features: int
) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes features of samples on such a mesh, and points in it."""

    def inputs() -> tuple[Any, ...]:
        nodes, edges, graph = on_triangles(rows, columns, *features)()
        places = torch.rand(len(nodes) + points, 2, generator=torch.Generator().manual_seed(0))
        on_all = (each.repeat(samples, 1) for each in (nodes, edges))
        return *on_all, Graph.join([graph] * samples), places[points:], places[:points]

    return inputs


def in_time(batch: int, size: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes what a recurrent U-Net on the HEALPix grid starts from."""

    def inputs() -> tuple[Any, ...]:
        shapes = [(batch, 12, 4, 7, size, size), (batch, 12, 6, 1, size, size), (12, 2, size, size)]
        return ([noise(*shape)()[0] for shape in shapes],)

    return inputs


def in_sigma(batch: int, size: int, *channels: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes images for each number of channels, and their noise levels."""

    def inputs() -> tuple[Any, ...]:
        return *images(batch, size, *channels)(), torch.linspace(0.1, 10, batch)

    return inputs


def images(batch: int, size: int, *channels: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes images for each number of channels."""
    return lambda: tuple(noise(batch, number, size, size)()[0] for number in channels)


def between_times(batch: int, channels: int, *grid: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes fields, and a time from 0 to 1 for each."""
    return lambda: (*noise(batch, channels, *grid)(), torch.linspace(0, 1, batch)[:, None])


def in_context(batch: int, times: int, size: int, context: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes sequences of states, and a context of one step."""
    return lambda: (*noise(batch, times, size)(), *noise(batch, 1, context)())


def with_lead_times(batch: int, channels: int, size: int) -> Callable[[], tuple[Any, ...]]:
    """Return a function that makes images, their noise levels, no labels, and lead times."""
    return lambda: (*in_noise(batch, channels, size)(), torch.arange(batch))


FNO = {"in_channels": 3, "out_channels": 1, "latent_channels": 32, "num_fno_layers": 4}
FNO_1D = FNO | {"dimension": 1, "num_fno_modes": 16, "padding": 8}
FNO_2D = FNO | {"dimension": 2, "num_fno_modes": 16, "padding": 8}
FNO_3D = FNO | {"dimension": 3, "num_fno_modes": 12, "padding": 4}

AFNO = {"inp_shape": [360, 720], "in_channels": 20, "out_channels": 20}
AFNO |= {"patch_size": [8, 8], "embed_dim": 256, "depth": 6}
SFNO = {"inp_shape": [181, 360], "out_shape": [181, 360], "inp_chans": 20, "out_chans": 20}
SFNO |= {"embed_dim": 128, "num_layers": 4, "scale_factor": 3}
PIX2PIX = {"in_channels": 3, "out_channels": 3, "dimension": 2}
SRRESNET = {"in_channels": 3, "out_channels": 3, "scaling_factor": 4}
RNN = {"input_channels": 2, "nr_latent_channels": 64, "nr_tsteps": 16}
SONG = {"img_resolution": 64, "in_channels": 4, "out_channels": 4, "channel_mult": [1, 2, 2]}
MESH: dict[str, Any] = {"input_dim_nodes": 11, "input_dim_edges": 3, "output_dim": 3}
HEALPIX_LAYERS = "physicsnemo.models.dlwp_healpix_layers."
HEALPIX_BLOCK = {"_target_": HEALPIX_LAYERS + "ConvNeXtBlock", "activation": "gelu"}
HEALPIX: dict[str, Any] = {
    "encoder": {
        "_target_": HEALPIX_LAYERS + "UNetEncoder",
        "conv_block": HEALPIX_BLOCK,
        "down_sampling_block": {"_target_": HEALPIX_LAYERS + "AvgPool"},
        "n_channels": [32, 64, 128],
        "n_layers": [1, 1, 1],
    },
    "decoder": {
        "_target_": HEALPIX_LAYERS + "UNetDecoder",
        "conv_block": HEALPIX_BLOCK,
        "up_sampling_block": {"_target_": HEALPIX_LAYERS + "TransposedConvUpsample"},
        "output_layer": {"_target_": HEALPIX_LAYERS + "BasicConvBlock", "kernel_size": 1},
        "recurrent_block": {"_target_": HEALPIX_LAYERS + "ConvGRUBlock"},
        "n_channels": [128, 64, 32],
        "n_layers": [1, 1, 1],
    },
    "input_channels": 7,
    "output_channels": 7,
    "n_constants": 2,
    "decoder_input_channels": 1,
    "input_time_dim": 2,
    "output_time_dim": 4,
}
DLWP = {"nr_input_channels": 18, "nr_output_channels": 18}
PANGU = {"img_size": [181, 360], "embed_dim": 96}
SWIN = {"img_size": [2, 181, 360], "in_chans": 70, "out_chans": 70, "embed_dim": 256}
MODAFNO = {"inp_shape": [720, 1440]}
REDUCED = {"input_dim_nodes": 2, "input_dim_edges": 3, "output_decode_dim": 2}
SEQUENCE = {"input_dim": 768, "input_context_dim": 2}  # three features of 256 points
ON_64: dict[str, Any] = {"img_resolution": 64}
ON_448: dict[str, Any] = {"img_resolution": 448}
OF_64 = ON_64 | {"img_channels": 3}
TIMES_64 = OF_64 | {"model_channels": 128}
NETWORK_448 = ON_448 | {"in_channels": 16, "out_channels": 4}
LEAD_TIMES_448 = NETWORK_448 | {"in_channels": 20, "lead_time_channels": 4}
# Twelve channels are the condition's; four of the positions are made by the network.
PAIRS_448 = ON_448 | {"img_in_channels": 16, "img_out_channels": 4}
GRAPHCAST = {"mesh_level": 5, "input_res": [181, 360]}

CASES = [
    BenchCase("32", "FullyConnected", {"in_features": 32}, noise(1024, 32)),
    BenchCase("512", "FullyConnected", {}, noise(1024, 512)),
    BenchCase("1d", "FNO", FNO_1D, noise(32, 3, 1024), plain=PlainFNO),
    BenchCase("2d-small", "FNO", FNO_2D, noise(8, 3, 32, 32), plain=PlainFNO),
    BenchCase("2d", "FNO", FNO_2D, noise(16, 3, 128, 128), plain=PlainFNO),
    BenchCase("3d-small", "FNO", FNO_3D, noise(2, 3, 24, 24, 24), plain=PlainFNO),
    BenchCase("3d", "FNO", FNO_3D, noise(2, 3, 64, 64, 64), plain=PlainFNO),
    BenchCase("2-degree", "AFNO", AFNO | {"inp_shape": [88, 176]}, noise(2, 20, 88, 176)),
    BenchCase("half-degree", "AFNO", AFNO, noise(2, 20, 360, 720)),
    BenchCase(
        "4-degree",
        "SFNO",
        SFNO | {"inp_shape": [45, 90], "out_shape": [45, 90]},
        noise(2, 20, 45, 90),
    ),
    BenchCase("1-degree", "SFNO", SFNO, noise(2, 20, 181, 360)),
    BenchCase(
        "small", "MeshGraphNet", MESH, on_triangles(20, 50, 11, 3), plain=_plain_meshgraphnet
    ),
    BenchCase(
        "20-thousand",
        "MeshGraphNet",
        MESH,
        on_triangles(100, 200, 11, 3),
        plain=_plain_meshgraphnet,
    ),
    BenchCase(
        "million",
        "MeshGraphNet",
        MESH | {"num_processor_checkpoint_segments": 5},
        on_triangles(1000, 1000, 11, 3),
    ),
    BenchCase("2d", "Pix2Pix", PIX2PIX, noise(8, 3, 128, 128)),
    BenchCase("3d", "Pix2Pix", PIX2PIX | {"dimension": 3}, noise(2, 3, 48, 48, 48)),
    BenchCase("x4", "SRResNet", SRRESNET, noise(2, 3, 16, 16, 16)),
    BenchCase("2d", "One2ManyRNN", RNN, noise(8, 2, 1, 64, 64)),
    BenchCase("3d", "One2ManyRNN", RNN | {"dimension": 3}, noise(1, 2, 1, 32, 32, 32)),
    BenchCase("2d", "Seq2SeqRNN", RNN, noise(8, 2, 16, 64, 64)),
    BenchCase(
        "small", "SongUNet", SONG | {"model_channels": 16, "num_blocks": 1}, in_noise(2, 4, 32)
    ),
    BenchCase("64", "SongUNet", SONG, in_noise(8, 4, 64)),
    BenchCase("small", "DLWP", DLWP | {"nr_initial_channels": 16}, noise(1, 18, 6, 16, 16)),
    BenchCase("64", "DLWP", DLWP, noise(4, 18, 6, 64, 64)),
    BenchCase("64", "HEALPixRecUNet", HEALPIX, in_time(4, 64)),
    BenchCase(
        "small",
        "Pangu",
        PANGU | {"img_size": [45, 90], "embed_dim": 12, "num_heads": [2, 4, 4, 2]},
        noise(1, 72, 45, 90),
    ),
    BenchCase("1-degree", "Pangu", PANGU, noise(1, 72, 181, 360)),
    BenchCase("1-degree", "Fengwu", PANGU, noise(1, 189, 181, 360)),
    BenchCase("1-degree", "SwinRNN", SWIN, noise(1, 70, 2, 181, 360)),
    BenchCase(
        "small",
        "GraphCastNet",
        GRAPHCAST | {"mesh_level": 2, "input_res": [19, 36], "hidden_dim": 32},
        noise(1, 474, 19, 36),
    ),
    BenchCase("1-degree", "GraphCastNet", GRAPHCAST, noise(1, 474, 181, 360)),
    BenchCase("quarter-degree", "ModAFNO", MODAFNO, between_times(1, 155, 720, 1440)),
    BenchCase("20-thousand", "BiStrideMeshGraphNet", MESH, on_levels(100, 200, 11, 3)),
    BenchCase("2-thousand", "Mesh_Reduced", REDUCED, to_points(8, 40, 50, 256, 2, 3)),
    BenchCase("100-times", "Sequence_Model", SEQUENCE, in_context(8, 100, 768, 2)),
    BenchCase("448", "SongUNetPosEmbd", NETWORK_448, in_noise(2, 12, 448)),
    BenchCase("448", "SongUNetPosLtEmbd", LEAD_TIMES_448, with_lead_times(2, 12, 448)),
    BenchCase(
        "64", "DhariwalUNet", ON_64 | {"in_channels": 3, "out_channels": 3}, in_noise(8, 3, 64)
    ),
    BenchCase("448", "UNet", PAIRS_448, images(2, 448, 4, 12)),
    BenchCase(
        "64",
        "StormCastUNet",
        ON_64 | {"img_in_channels": 16, "img_out_channels": 4},
        noise(8, 16, 64, 64),
    ),
    BenchCase("64", "EDMPrecond", OF_64, in_sigma(8, 64, 3)),
    BenchCase("448", "EDMPrecondSuperResolution", PAIRS_448, in_sigma(2, 448, 4, 12)),
    BenchCase("448", "EDMPrecondSR", PAIRS_448 | {"img_channels": 4}, in_sigma(2, 448, 4, 12)),
    BenchCase("448", "tEDMPrecondSuperRes", PAIRS_448, in_sigma(2, 448, 4, 12)),
    BenchCase("64", "VPPrecond", OF_64, in_sigma(8, 64, 3)),
    BenchCase("64", "VEPrecond", OF_64, in_sigma(8, 64, 3)),
    BenchCase("64", "iDDPMPrecond", OF_64, in_sigma(8, 64, 3)),
    BenchCase("64", "VEPrecond_dfsr", TIMES_64, in_sigma(8, 64, 3)),
    BenchCase("64", "VEPrecond_dfsr_cond", TIMES_64, in_sigma(8, 64, 3)),
    BenchCase("128", UNet, {}, noise(8, 1, 128, 128)),
    BenchCase("128-default-adam", UNet, {}, noise(8, 1, 128, 128), optimizer=Adam),
]
QUICK = ["FullyConnected-32", "FNO-2d-small"]
