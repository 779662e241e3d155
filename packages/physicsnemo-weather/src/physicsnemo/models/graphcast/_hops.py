# SPDX-License-Identifier: Apache-2.0
"""Which nodes of the mesh are within a number of edges of each other."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from physicsnemo.models.graphcast.icosahedral_mesh import Integers, mesh_edges, mesh_hierarchy

# Nodes that walks start from at a time, a multiple of 64, as they are bits; it bounds the memory.
_CHUNK = 1 << 13


@lru_cache(maxsize=1)
@torch.inference_mode(False)
def mesh_within_hops(mesh_level: int, multimesh: bool, hops: int) -> Tensor | None:
    """Return which vertices of a mesh are joined by walks of at most so many edges.

    Returns
    -------
    True for pairs that are, of shape (vertices, vertices); None if all are.
    """
    meshes = mesh_hierarchy(mesh_level)
    edges = mesh_edges(meshes if multimesh else meshes[-1:])
    joined = within_hops(edges, meshes[-1].vertices.shape[0], hops)
    return None if joined.all() else torch.from_numpy(joined)


def within_hops(edges: Integers, num_nodes: int, hops: int) -> npt.NDArray[np.bool_]:
    """Return which nodes are joined by a walk of 1 to ``hops`` edges.

    A node is joined to itself by two edges, there and back.

    Parameters
    ----------
    edges
        Edges in both directions, sorted by source, at least one at each node, of shape (2, edges).
    num_nodes
        The number of nodes.
    hops
        The longest walk.
    """
    source, neighbour = edges
    starts = np.searchsorted(source, np.arange(num_nodes))
    joined = np.empty((num_nodes, num_nodes), bool)
    for first in range(0, num_nodes, _CHUNK):
        count = min(_CHUNK, num_nodes - first)
        itself = np.packbits(np.eye(num_nodes, _CHUNK, -first, dtype=bool), axis=1)
        reached = _step(itself.view(np.uint64), neighbour, starts)
        for _ in range(hops - 1):
            further = reached | _step(reached, neighbour, starts)
            if np.array_equal(further, reached):
                break
            reached = further
        joined[:, first : first + count] = np.unpackbits(
            reached.view(np.uint8), axis=1, count=count
        )
    return joined


def _step(
    reached: npt.NDArray[np.uint64], neighbour: Integers, starts: Integers
) -> npt.NDArray[np.uint64]:
    """Return for each node the union of what its neighbours have, sets being rows of bits."""
    return np.bitwise_or.reduceat(reached[neighbour], starts, axis=0)
