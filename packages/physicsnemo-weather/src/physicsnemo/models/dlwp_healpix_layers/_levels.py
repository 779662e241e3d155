# SPDX-License-Identifier: Apache-2.0
"""What the two halves of a U-Net are told about each grid."""

from collections.abc import Sequence

__all__ = ["check_levels"]


def check_levels(
    n_channels: Sequence[int], n_layers: Sequence[int], dilations: Sequence[int] | None
) -> Sequence[int]:
    """Return the dilation on each grid, 1 if there is none given.

    Raises
    ------
    ValueError
        If there are no grids, or fewer of something than there are grids; further ones count
        nothing, as in nvidia-physicsnemo, so that defaults may be for more grids.
    """
    dilations = [1] * len(n_channels) if dilations is None else dilations
    if not 0 < len(n_channels) <= min(len(n_layers), len(dilations)):
        raise ValueError(
            f"expected n_channels for one grid or more, and n_layers and dilations for as many, "
            f"got {list(n_channels)}, {list(n_layers)} and {list(dilations)}"
        )
    return dilations
