# SPDX-License-Identifier: Apache-2.0
"""Series of earth-specific blocks: alone, behind an embedding of patches, before a recovery."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from physicsnemo.models.window_layers.earth import earth_blocks
from physicsnemo.models.window_layers.patches import PatchEmbed, PatchRecovery
from physicsnemo.models.window_layers.resampling import DownSample, UpSample, coarser
from physicsnemo.nn.numerics import PAPER


class FuserLayer(nn.Module):
    """Blocks of attention within windows of level, latitude and longitude.

    Parameters
    ----------
    dim, grid, num_heads, window, drop_path, numerics, post_norm
        As in :func:`~physicsnemo.models.window_layers.earth_blocks`.
    """

    def __init__(
        self,
        dim: int,
        grid: tuple[int, ...],
        num_heads: int,
        window: tuple[int, ...],
        drop_path: Sequence[float],
        numerics: str = PAPER,
        post_norm: bool | None = None,
    ) -> None:
        super().__init__()
        self.blocks = earth_blocks(dim, grid, num_heads, window, drop_path, numerics, post_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *grid, dim) to grids of that shape."""
        for block in self.blocks:
            x = block(x)
        return x


class EncoderLayer(nn.Module):
    """Fields of one kind to a grid of half the patches' resolution.

    Parameters
    ----------
    img_size
        Height and width of the fields.
    patch_size
        Height and width of a patch.
    in_chans
        Channels of the fields.
    dim
        Channels of the grid of patches; the coarser one has twice as many.
    num_heads
        Number of heads at full and at half resolution.
    window
        Points of a window along latitude and longitude.
    drop_path
        Probabilities of leaving out a branch in training, of the blocks at full and of those at
        half resolution.
    numerics
        As in :class:`~physicsnemo.models.fengwu.Fengwu`.
    """

    def __init__(
        self,
        img_size: tuple[int, ...],
        patch_size: tuple[int, ...],
        in_chans: int,
        dim: int,
        num_heads: Sequence[int],
        window: tuple[int, ...],
        drop_path: Sequence[Sequence[float]],
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        self.patchembed2d = PatchEmbed(img_size, patch_size, in_chans, dim)
        grid = self.patchembed2d.grid
        fine, coarse = zip(num_heads, drop_path, strict=True)
        self.blocks = earth_blocks(dim, grid, fine[0], window, fine[1], numerics, post_norm=False)
        self.downsample = DownSample(dim, grid)
        self.blocks_middle = earth_blocks(
            2 * dim, coarser(grid), coarse[0], window, coarse[1], numerics, post_norm=False
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode fields.

        Parameters
        ----------
        x
            Fields of shape (batch, in_chans, *img_size).

        Returns
        -------
        The coarser grid, of shape (batch, *coarser grid, 2 * dim), and the grid of patches, of
        shape (batch, *grid, dim).
        """
        x = self.patchembed2d(x)
        for block in self.blocks:
            x = block(x)
        skip, x = x, self.downsample(x)
        for block in self.blocks_middle:
            x = block(x)
        return x, skip


class DecoderLayer(nn.Module):
    """The reverse of an :class:`EncoderLayer`.

    Parameters
    ----------
    img_size, patch_size, dim, num_heads, window, drop_path, numerics
        As there.
    out_chans
        Channels of the fields.
    """

    def __init__(
        self,
        img_size: tuple[int, ...],
        patch_size: tuple[int, ...],
        out_chans: int,
        dim: int,
        num_heads: Sequence[int],
        window: tuple[int, ...],
        drop_path: Sequence[Sequence[float]],
        numerics: str = PAPER,
    ) -> None:
        super().__init__()
        self.patchrecovery2d = PatchRecovery(img_size, patch_size, 2 * dim, out_chans)
        grid = self.patchrecovery2d.grid
        fine, coarse = zip(num_heads, drop_path, strict=True)
        self.blocks_middle = earth_blocks(
            2 * dim, coarser(grid), coarse[0], window, coarse[1], numerics, post_norm=False
        )
        self.upsample = UpSample(dim, grid)
        self.blocks = earth_blocks(dim, grid, fine[0], window, fine[1], numerics, post_norm=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Decode fields.

        Parameters
        ----------
        x
            The coarser grid, of shape (batch, *coarser grid, 2 * dim).
        skip
            The encoder's grid of patches, of shape (batch, *grid, dim).

        Returns
        -------
        Fields of shape (batch, out_chans, *img_size).
        """
        for block in self.blocks_middle:
            x = block(x)
        x = self.upsample(x)
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.patchrecovery2d(torch.cat((x, skip), dim=-1))
        return output
