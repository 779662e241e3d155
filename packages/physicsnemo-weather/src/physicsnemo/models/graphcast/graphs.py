# SPDX-License-Identifier: Apache-2.0
"""The three graphs of GraphCast: grid to mesh, mesh, and mesh to grid."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from physicsnemo.models.gnn_layers import Graph, Incidence
from physicsnemo.models.graphcast._cache import Arrays, cache_folder, cached
from physicsnemo.models.graphcast._geometry import (
    Coordinates,
    edge_features,
    grid_to_mesh,
    mesh_to_grid,
    mesh_to_grid_by_centroid,
    node_features,
    node_features_of_degrees,
)
from physicsnemo.models.graphcast.icosahedral_mesh import mesh_edges, mesh_hierarchy
from physicsnemo.nn.checks import check_at_least
from physicsnemo.nn.numerics import PAPER, check_numerics

__all__ = ["GraphCastGraphs", "build_graphs"]

MOST_LEVELS = 8
"""Level of the finest mesh, so that a small file cannot demand any amount of memory."""
MOST_POINTS = 2**22
"""Number of points of the finest grid, for the same reason; a grid of 1/8 degree has fewer."""


@dataclass(frozen=True)
class GraphCastGraphs:
    """Graphs, edge features and node features of GraphCast, on the CPU; not to be edited.

    Parameters
    ----------
    g2m
        Bipartite graph from grid points to mesh vertices.
    mesh
        Graph of the mesh vertices.
    m2g
        Bipartite graph from mesh vertices to grid points.
    g2m_edata, mesh_edata, m2g_edata
        Edge features, in double precision, of shape (edges, 4).
    mesh_ndata
        Vertex features, in double precision, of shape (vertices, 3).
    """

    g2m: Graph
    mesh: Graph
    m2g: Graph
    g2m_edata: Tensor
    mesh_edata: Tensor
    m2g_edata: Tensor
    mesh_ndata: Tensor


def build_graphs(
    mesh_level: int,
    input_res: Sequence[int],
    multimesh: bool = True,
    numerics: str = PAPER,
) -> GraphCastGraphs:
    """Build the graphs of a :class:`GraphCastNet`.

    The latest ones are cached in memory, and in files within :func:`graph_cache`. Grid points are
    numbered row by row, from the south pole to the north pole, and in a row eastward from one step
    east of the date line.

    Parameters
    ----------
    mesh_level
        Number of refinements of the icosahedron.
    input_res
        Number of latitudes and of longitudes of the grid.
    multimesh
        Whether the mesh includes the edges of all coarser levels.
    numerics
        As in :class:`GraphCastNet`.

    Returns
    -------
    The graphs, as the same object for the same arguments.

    Raises
    ------
    TypeError
        If ``mesh_level`` or ``input_res`` are not integers.
    ValueError
        If ``mesh_level`` is negative, ``input_res`` is not two numbers of at least 2 and 1, the
        ``numerics`` are unknown, the mesh is finer than ``MOST_LEVELS``, or the grid has more
        points than ``MOST_POINTS``, both constants of this module.

    References
    ----------
    Lam et al. 2022, arXiv:2212.12794, section 3 of the supplement.

    Examples
    --------
    >>> from physicsnemo.models.graphcast import build_graphs
    >>> graphs = build_graphs(mesh_level=2, input_res=(19, 36))
    >>> graphs.mesh
    Graph(edge_index=..., num_nodes=162, num_targets=162, ...)
    """
    check_numerics(numerics)
    height, width = check_sizes(mesh_level, input_res)
    layout = _Layout(
        mesh_level=mesh_level,
        height=height,
        width=width,
        multimesh=bool(multimesh),
        paper=numerics == PAPER,
    )
    return _build(layout, cache_folder())


def check_sizes(mesh_level: int, input_res: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of latitudes and longitudes; raise an error for sizes out of range."""
    check_at_least(0, mesh_level=mesh_level)
    if mesh_level > MOST_LEVELS:
        raise ValueError(
            f"expected mesh_level of at most {MOST_LEVELS}, got {mesh_level}, with which the mesh "
            f"has {10 * 4 ** min(mesh_level, 99) + 2:.0e} vertices; to have it nevertheless, raise "
            f"{__name__}.MOST_LEVELS"
        )
    if not hasattr(input_res, "__len__"):
        raise TypeError(f"expected input_res of two numbers, got {input_res!r}")
    if isinstance(input_res, str) or len(input_res) != 2:
        raise ValueError(f"expected input_res of two numbers, got {input_res!r}")
    height, width = input_res
    check_at_least(2, **{"input_res[0], the latitudes with both poles,": height})
    check_at_least(1, **{"input_res[1], the longitudes,": width})
    if height * width > MOST_POINTS:
        raise ValueError(
            f"expected input_res of at most {MOST_POINTS} points, got {height} x {width}; to have "
            f"them nevertheless, raise {__name__}.MOST_POINTS"
        )
    return operator.index(height), operator.index(width)


def graph_chunks(graph: Graph, points: Incidence, chunks: int) -> list[Graph]:
    """Divide a bipartite graph by consecutive points of the grid.

    Parameters
    ----------
    graph
        The graph, whose edges are sorted by grid point.
    points
        The end of its edges on the grid, ``graph.source`` or ``graph.target``.
    chunks
        Number of parts.

    Returns
    -------
    Graphs of all mesh vertices, and of as many points each as it gets; they follow one another,
    and so do their edges.
    """
    bounds = [points.num_nodes * chunk // chunks for chunk in range(chunks + 1)]
    numbers = [graph.num_nodes, graph.target.num_nodes]
    end = 0 if points is graph.source else 1
    parts = []
    for start, stop in pairwise(bounds):
        edges = graph.edge_index[:, points.indptr[start] : points.indptr[stop]].clone()
        edges[end] -= start
        numbers[end] = stop - start
        parts.append(Graph(edges, num_nodes=numbers[0], num_targets=numbers[1]))
    return parts


@lru_cache(maxsize=2)
@torch.inference_mode(False)
def features_of(graphs: GraphCastGraphs, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return all features in a dtype, on the CPU, as the same tensors in each call."""
    names = ("g2m_edata", "mesh_edata", "m2g_edata", "mesh_ndata")
    return {name: getattr(graphs, name).to("cpu", dtype) for name in names}


class _Layout(NamedTuple):
    """Everything that the graphs depend on."""

    mesh_level: int
    height: int
    width: int
    multimesh: bool
    paper: bool

    @property
    def name(self) -> str:
        mesh = "multimesh" if self.multimesh else "mesh"
        numerics = "paper" if self.paper else "reference"
        return f"graphcast-{mesh}{self.mesh_level}-{self.height}x{self.width}-{numerics}"


@lru_cache(maxsize=2)
@torch.inference_mode(False)  # the graphs serve other models too, which may be trained
def _build(layout: _Layout, folder: Path | None) -> GraphCastGraphs:
    arrays = (
        cached(lambda: _make(layout), folder, layout.name) if folder is not None else _make(layout)
    )
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    edges = {name: tensors.pop(name).long() for name in ("g2m", "mesh", "m2g")}
    points, vertices = layout.height * layout.width, len(tensors["mesh_ndata"])
    with torch.device("cpu"):  # whatever the device is that a model is being built on
        return GraphCastGraphs(
            g2m=Graph(edges["g2m"], points, vertices),
            mesh=Graph(edges["mesh"], vertices),
            m2g=Graph(edges["m2g"], vertices, points),
            **tensors,
        )


def _make(layout: _Layout) -> Arrays:
    meshes = mesh_hierarchy(layout.mesh_level)
    used = meshes if layout.multimesh else meshes[-1:]
    mesh = Coordinates.of_points(meshes[-1].vertices)
    edges = mesh_edges(used)
    if layout.paper:
        grid = Coordinates.of_grid(layout.height, layout.width)
        vertices = node_features(mesh)
        g2m, m2g = grid_to_mesh(grid.xyz, meshes[-1]), mesh_to_grid(grid.xyz, meshes)
    else:
        # Rounded angles put points at a pole a little beyond it, where their coordinates have the
        # opposite longitude, and so a local frame in which east and north are west and south.
        rounded = Coordinates.of_grid(layout.height, layout.width, np.float32)
        grid = Coordinates.of_points(rounded.xyz)
        vertices = node_features_of_degrees(mesh)
        g2m = grid_to_mesh(grid.xyz, meshes[-1], least=0)
        m2g = mesh_to_grid_by_centroid(grid.xyz, used)
    return {
        "g2m": g2m.astype(np.int32),
        "mesh": edges.astype(np.int32),
        "m2g": m2g.astype(np.int32),
        "g2m_edata": edge_features(g2m, grid, mesh),
        "mesh_edata": edge_features(edges, mesh, mesh),
        "m2g_edata": edge_features(m2g, mesh, grid),
        "mesh_ndata": vertices,
    }
