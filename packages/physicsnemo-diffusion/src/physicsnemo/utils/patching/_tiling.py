# SPDX-License-Identifier: Apache-2.0
"""How tiles lie along one axis of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """Tiles of equal width at equal distances, from ``boundary`` points before an image on.

    Parameters
    ----------
    size
        Points of the image.
    patch
        Points of a tile.
    overlap, boundary
        Points that a tile shares with its neighbors: each next tile begins
        ``patch - overlap - boundary`` points after the last.

    Raises
    ------
    ValueError
        If a tile is too narrow for what it shares, or a number is out of range.
    """

    size: int
    patch: int
    overlap: int
    boundary: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.overlap, self.boundary) < 0:
            raise ValueError(
                f"expected overlap_pix and boundary_pix of at least 0, got {self.overlap} "
                f"and {self.boundary}"
            )
        if self.size < 1:
            raise ValueError(f"expected an image of at least 1 pixel each way, got {self.size}")
        if self.patch <= self.overlap + 2 * self.boundary:
            raise ValueError(
                f"expected patches of more than overlap_pix + 2 * boundary_pix = "
                f"{self.overlap + 2 * self.boundary} pixels each way, got {self.patch}; "
                "take larger patches or a smaller overlap"
            )

    @property
    def stride(self) -> int:
        """The distance between tiles."""
        return self.patch - self.overlap - self.boundary

    @property
    def number(self) -> int:
        """The number of tiles."""
        return -(-self.size // self.stride)

    @property
    def end(self) -> int:
        """Where the last tile ends, counted from the start of the first."""
        return self.stride * (self.number - 1) + self.patch

    def sources(self, device: torch.device) -> Tensor:
        """Return the point of the image that is seen at each point under the tiles: (end,).

        Beyond its ends the image is reflected, as often as needed; the end points are not repeated.
        """
        last = self.size - 1
        points = torch.arange(-self.boundary, self.end - self.boundary, device=device)
        # A triangle wave of period 2 * last: reflections of reflections, too.
        return last - (points % max(2 * last, 1) - last).abs()

    def counts(self, device: torch.device) -> Tensor:
        """Return how many tiles cover each point under the tiles, in float32: (end,)."""
        points = torch.arange(self.end, device=device)
        # Of the tiles at a point: the last that begins by then, and the first that ends later.
        latest = (points // self.stride).clamp(max=self.number - 1)
        earliest = ((points - self.patch) // self.stride + 1).clamp(min=0)
        return (latest - earliest + 1).float()
