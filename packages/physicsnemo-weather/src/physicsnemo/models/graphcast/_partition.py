# SPDX-License-Identifier: Apache-2.0
"""Options about several processes, of which there is one."""

import math
import warnings

from physicsnemo.nn.checks import is_integer

Bounds = list[list[float | None]]


def get_lat_lon_partition_separators(partition_size: int) -> tuple[Bounds, Bounds]:
    """Divide the sphere into rectangles of latitude and longitude, as square as may be.

    Parameters
    ----------
    partition_size
        The number of rectangles.

    Returns
    -------
    The lower bounds of latitude and longitude of each rectangle, in degrees and southernmost
    first, and its upper bounds. A rectangle has its lower bounds, not its upper ones; None stands
    for an upper bound that is not needed, at the north pole and the date line.

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
    """Say that several processes do not share the graphs; raise an error for a contradiction."""
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
    """Raise an error if the input is said to be both in parts and whole."""
    if expect_partitioned_input and global_features_on_rank_0:
        raise ValueError(
            "expect_partitioned_input and global_features_on_rank_0 contradict each other: the "
            "first means that each process has a part of the input, the second that one has all; "
            "set at most one"
        )
