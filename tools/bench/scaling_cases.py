# SPDX-License-Identifier: Apache-2.0
"""What ``tools.bench.scaling`` times: models and samples of a size that can be varied."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.utils import _pytree as pytree

from physicsnemo.distributed import distribute, partition, shard, split
from physicsnemo.models.afno import AFNO
from physicsnemo.models.diffusion import SongUNet
from physicsnemo.models.fno import FNO
from physicsnemo.models.gnn_layers import Graph
from physicsnemo.models.graphcast import GraphCastNet, graphs
from physicsnemo.models.meshgraphnet import MeshGraphNet
from physicsnemo.models.pangu import Pangu
from physicsnemo.models.sfno import SFNO

Inputs = tuple[Any, ...]
WAYS = ("alone", "ddp", "fsdp", "domain-fixed", "domain-weak")
VARIABLES = 474  # of GraphCast's input


@dataclass(frozen=True)
class Problem:
    """A model and a sample, of which ``rows`` are the size that is varied."""

    name: str
    rows: int
    model: Callable[[int], nn.Module]
    sample: Callable[[int], Inputs]

    def rows_of(self, way: str, gpus: int) -> int:
        """Return the rows of a sample, which all GPUs have together if it is divided."""
        return self.rows * (gpus if way == "domain-weak" else 1)


def divide(
    model: nn.Module, inputs: Inputs, way: str, mesh: DeviceMesh, precision: torch.dtype | None
) -> tuple[nn.Module, Inputs]:
    """Return what one process has of a model and of a sample; no gradients are averaged yet."""
    if way == "fsdp":
        return shard(model, mesh, precision=precision), inputs
    if not way.startswith("domain"):
        return model, inputs
    distribute(model, mesh)
    if isinstance(inputs[-1], Graph):
        part = partition(inputs[-1], mesh)
        return model, (part.of_nodes(inputs[0]), part.of_edges(inputs[1]), part)
    return model, (split(inputs[0], model).clone(), *inputs[1:])


def loss_of(outputs: Any) -> Tensor:
    """Return a loss that depends on all outputs of a model."""
    fields = pytree.tree_leaves(outputs)
    return torch.stack([field.float().square().mean() for field in fields]).sum()


def problems(small: bool) -> list[Problem]:
    """Return what is timed, at the sizes of the documentation or at small ones."""
    factor = 8 if small else 1
    n, nodes = 192 // factor, 500_000 // factor**3
    height, width = (96, 192) if small else (720, 1440)
    width_of = {"fno": 32, "afno": 768, "sfno": 256, "song": 128, "pangu": 192}
    w = {name: max(16, size // factor) for name, size in width_of.items()}
    depth = 2 if small else 12
    quarter, degree = ((17, 32), (9, 16)) if small else ((721, 1440), (181, 360))

    return [
        Problem(
            "FNO 3D",
            n,
            lambda rows: FNO(
                3,
                3,
                dimension=3,
                latent_channels=w["fno"],
                num_fno_modes=24 // (4 if small else 1),
                padding=0,
            ),
            fields(3, n, n),
        ),
        Problem(
            "AFNO",
            height,
            lambda rows: AFNO(
                [rows, width], 20, 20, patch_size=[6, 6], embed_dim=w["afno"], depth=depth
            ),
            fields(20, width),
        ),
        Problem(
            "SFNO",
            height + 1,
            lambda rows: SFNO(
                [rows, width], [rows, width], 20, 20, embed_dim=w["sfno"], scale_factor=3
            ),
            fields(20, width),
        ),
        Problem(
            "SongUNet",
            height // 2,
            lambda rows: song_unet(rows, width, w["song"]),
            lambda rows: (
                torch.randn(1, 4, rows, width).to(memory_format=torch.channels_last),
                torch.tensor([0.5]),
                None,
            ),
        ),
        # Patches of 4, a downsampling by 2, and then a window of rows for each of eight GPUs, or of
        # four if small.
        Problem(
            "Pangu",
            192 if small else 384,
            lambda rows: Pangu([rows, 24 if small else 720], embed_dim=w["pangu"] // 12 * 12),
            fields(72, 24 if small else 720),
        ),
        Problem(
            "MeshGraphNet",
            nodes,
            lambda rows: MeshGraphNet(4, 3, 2, num_processor_checkpoint_segments=15),
            triangles,
        ),
        graphcast("GraphCast", *quarter, level=2 if small else 6, dim=512 // factor),
        graphcast("GraphCast 1 degree", *degree, level=1 if small else 5, dim=512 // factor),
    ]  # fmt: skip


def fields(channels: int, *rest: int) -> Callable[[int], Inputs]:
    """Return what makes a sample of fields, given the number of rows."""
    return lambda rows: (torch.randn(1, channels, rows, *rest),)


def song_unet(rows: int, columns: int, channels: int) -> nn.Module:
    """Return a U-Net of three levels, in the memory format in which it is fastest."""
    model = SongUNet(
        [rows, columns],
        4,
        4,
        model_channels=channels,
        channel_mult=[1, 2, 2],
        attn_resolutions=[],
        bottleneck_attention=False,
        dropout=0.0,
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def graphcast(name: str, rows: int, columns: int, level: int, dim: int) -> Problem:
    """Return GraphCast on a grid; with more rows, the mesh stays the same.

    At a quarter of a degree its steps are computed again in the backward pass, as one GPU cannot
    keep all activations.
    """

    def build(rows: int) -> nn.Module:
        # What is too large for one GPU, as a mistyped grid would be, is not for many.
        graphs.MOST_POINTS = max(graphs.MOST_POINTS, rows * columns)
        model = GraphCastNet(mesh_level=level, input_res=(rows, columns), hidden_dim=dim)
        if columns > 1000:
            model.set_checkpoint_encoder(True)
            model.set_checkpoint_processor(7)
            model.set_checkpoint_decoder(True)
        return model

    return Problem(name, rows, build, fields(VARIABLES, columns))


def triangles(nodes: int) -> Inputs:
    """Return features of a mesh of triangles with about so many nodes, and the mesh."""
    with torch.device("cpu"):  # edges are needed to divide it, whatever the features are
        graph = triangle_mesh(nodes)
    return torch.randn(graph.num_nodes, 4), torch.randn(graph.num_edges, 3), graph


def triangle_mesh(nodes: int) -> Graph:
    """Return a mesh of triangles with about so many nodes."""
    columns = int(nodes**0.5)
    rows = nodes // columns
    row, column = torch.arange(rows * columns) // columns, torch.arange(rows * columns) % columns
    ends = []
    for y, x in ((0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, -1)):
        inside = (row + y >= 0) & (row + y < rows) & (column + x >= 0) & (column + x < columns)
        start = inside.nonzero()[:, 0]
        ends.append(torch.stack((start, (row + y)[start] * columns + (column + x)[start])))
    position = torch.stack((row, column), dim=1).float()
    return Graph(torch.cat(ends, dim=1), rows * columns, pos=position)
