# SPDX-License-Identifier: Apache-2.0
"""What adapters read from other libraries' graphs."""

from typing import NamedTuple

from torch import Tensor


class Edges(NamedTuple):
    """The edges of a graph, and what models need of its nodes; see ``Graph`` for shapes."""

    edge_index: Tensor
    num_sources: int
    num_targets: int
    pos: Tensor | None = None
    batch: Tensor | None = None
    num_graphs: int = 1
