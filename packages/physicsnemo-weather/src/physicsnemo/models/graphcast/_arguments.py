# SPDX-License-Identifier: Apache-2.0
"""Checks of GraphCastNet's arguments, and what is there of those about several processes."""

import math
import warnings

from physicsnemo.nn.checks import check_at_least, check_choice, is_integer

Bounds = list[list[float | None]]

_TYPES = ("MessagePassing", "GraphTransformer")
# The finest mesh with a dense attention mask, which takes two gigabytes there.
_MOST_LEVELS_OF_ATTENTION = 6


def check_dims(
    *, input_dim_mesh_nodes: int, input_dim_edges: int, processor_layers: int, hidden_layers: int
) -> None:
    """Raise an error unless the numbers of features and layers are possible."""
    if (input_dim_mesh_nodes, input_dim_edges) != (3, 4):
        raise ValueError(
            f"expected input_dim_mesh_nodes=3 and input_dim_edges=4, as many features as are made "
            f"of the places of vertices and edges, got {input_dim_mesh_nodes} and {input_dim_edges}"
        )
    check_at_least(3, processor_layers=processor_layers)
    check_at_least(0, hidden_layers=hidden_layers)  # None, for no MLP, is for other models


def check_processor(kind: str, khop_neighbors: int, mesh_level: int) -> None:
    """Raise an error unless the processor type is known and possible for the mesh."""
    check_choice("processor_type", kind, _TYPES)
    if kind != "GraphTransformer":
        return
    check_at_least(1, khop_neighbors=khop_neighbors)
    check_at_least(0, mesh_level=mesh_level)
    if mesh_level > _MOST_LEVELS_OF_ATTENTION:
        raise ValueError(
            f"expected mesh_level of at most {_MOST_LEVELS_OF_ATTENTION} with GraphTransformer, "
            f"which holds all pairs of vertices, got {mesh_level}"
        )


def get_lat_lon_partition_separators(partition_size: int) -> tuple[Bounds, Bounds]:
    """Partition the sphere into latitude-longitude rectangles, as square as possible.

    Parameters
    ----------
    partition_size
        Number of rectangles.

    Returns
    -------
    Lower bounds and upper bounds of latitude and longitude of each rectangle, in degrees, the
    southernmost first. Lower bounds are inclusive, upper ones exclusive; None stands for no upper
    bound, at the north pole and the date line.

    Raises
    ------
    ValueError
        If ``partition_size`` is not positive.

    Examples
    --------
    >>> from physicsnemo.models.graphcast.graph_cast_net import get_lat_lon_partition_separators
    >>> get_lat_lon_partition_separators(2)
    ([[-90.0, -180.0], [-90.0, 0.0]], [[None, 0.0], [None, None]])
    """
    if partition_size < 1:
        raise ValueError(f"expected a partition_size of at least 1, got {partition_size}")
    limit = math.isqrt(partition_size)
    rows = next(count for count in range(limit, 0, -1) if partition_size % count == 0)
    columns = partition_size // rows
    lats = [-90 + 180 * row / rows for row in range(rows)]
    lons = [-180 + 360 * column / columns for column in range(columns)]
    lower: Bounds = [[lat, lon] for lat in lats for lon in lons]
    upper: Bounds = [[lat, lon] for lat in [*lats[1:], None] for lon in [*lons[1:], None]]
    return lower, upper


def check_partition(
    partition_size: int, expect_partitioned_input: bool, global_features_on_rank_0: bool
) -> None:
    """Warn that graphs are not partitioned; raise an error for contradictory options."""
    if not is_integer(partition_size):
        raise TypeError(f"expected partition_size to be a whole number, got {partition_size!r}")
    if partition_size > 1:
        warnings.warn(
            f"partition_size={partition_size} is taken for 1, the graphs are not divided among "
            f"processes; to save memory, use set_checkpoint_model and its like, and to share work, "
            f"DistributedDataParallel",
            stacklevel=3,
        )
    check_origin(expect_partitioned_input, global_features_on_rank_0)


def check_origin(expect_partitioned_input: bool, global_features_on_rank_0: bool) -> None:
    """Raise an error if the input is declared both partitioned and global."""
    if expect_partitioned_input and global_features_on_rank_0:
        raise ValueError(
            "expect_partitioned_input and global_features_on_rank_0 contradict each other: the "
            "first means that each process has a part of the input, the second that one has all; "
            "set at most one"
        )
