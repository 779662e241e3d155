# SPDX-License-Identifier: Apache-2.0
"""Earth-specific transformer of Pangu-Weather and FengWu: stages, blocks, window mask, bias."""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from physicsnemo.models.history import Renamed
from physicsnemo.models.window_layers.attention import attend, check_heads, toeplitz
from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.patches import (
    DownSample,
    PatchEmbed,
    PatchRecovery,
    UpSample,
    coarser,
)
from physicsnemo.models.window_layers.windows import (
    Windows,
    centered_pads,
    padded_sizes,
    rolled_labels,
    window_mask,
)
from physicsnemo.nn.numerics import PAPER, has_oddity

# Shift of (level,) latitude and longitude in nvidia-physicsnemo, whatever the window's size: half
# of the default window.
_REFERENCE_SHIFT = (1, 3, 6)
_HISTORY = (
    Renamed("mlp.fc1.", "mlp.layers.0.", since="1.3"),
    Renamed("mlp.fc2.", "mlp.layers.2.", since="1.3"),
)


class FuserLayer(nn.Module):
    """Stage of earth-specific blocks: the fuser of FengWu, and each of the four stages of Pangu.

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
        self.blocks = earth_blocks(
            dim,
            grid=grid,
            num_heads=num_heads,
            window=window,
            drop_path=drop_path,
            numerics=numerics,
            post_norm=post_norm,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *grid, dim) to grids of the same shape."""
        for block in self.blocks:
            x = block(x)
        return x


class EncoderLayer(nn.Module):
    """Encoder: patch embedding, blocks, downsampling, blocks at half resolution.

    Parameters
    ----------
    img_size
        Height and width of the fields.
    patch_size
        Height and width of a patch.
    in_chans
        Number of channels of the fields.
    dim
        Number of embedding channels; at half resolution there are twice as many.
    num_heads
        Number of attention heads at full and at half resolution.
    window
        Size of a window, latitude and longitude.
    drop_path
        Stochastic depth: drop probabilities of the blocks at full and of those at half resolution.
    numerics
        As in :class:`~physicsnemo.models.fengwu.fengwu.Fengwu`.
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
        self.patchembed2d = PatchEmbed(img_size, patch_size, in_chans=in_chans, embed_dim=dim)
        grid = self.patchembed2d.grid
        self.blocks = earth_blocks(
            dim,
            grid=grid,
            num_heads=num_heads[0],
            window=window,
            drop_path=drop_path[0],
            numerics=numerics,
            post_norm=False,
        )
        self.downsample = DownSample(dim, grid)
        self.blocks_middle = earth_blocks(
            2 * dim,
            grid=coarser(grid),
            num_heads=num_heads[1],
            window=window,
            drop_path=drop_path[1],
            numerics=numerics,
            post_norm=False,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode fields.

        Parameters
        ----------
        x
            Fields of shape (batch, in_chans, *img_size).

        Returns
        -------
        The encoding, of shape (batch, *coarser grid, 2 * dim), and the skip connection, of shape
        (batch, *grid, dim).
        """
        x = self.patchembed2d(x)
        for block in self.blocks:
            x = block(x)
        skip, x = x, self.downsample(x)
        for block in self.blocks_middle:
            x = block(x)
        return x, skip


class DecoderLayer(nn.Module):
    """Decoder: blocks at half resolution, upsampling, blocks, patch recovery.

    Parameters
    ----------
    img_size, patch_size, dim, num_heads, window, drop_path, numerics
        As in :class:`EncoderLayer`.
    out_chans
        Number of channels of the fields.
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
        self.patchrecovery2d = PatchRecovery(
            img_size, patch_size, in_chans=2 * dim, out_chans=out_chans
        )
        grid = self.patchrecovery2d.grid
        self.blocks_middle = earth_blocks(
            2 * dim,
            grid=coarser(grid),
            num_heads=num_heads[1],
            window=window,
            drop_path=drop_path[1],
            numerics=numerics,
            post_norm=False,
        )
        self.upsample = UpSample(dim, grid)
        self.blocks = earth_blocks(
            dim,
            grid=grid,
            num_heads=num_heads[0],
            window=window,
            drop_path=drop_path[0],
            numerics=numerics,
            post_norm=False,
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Decode fields.

        Parameters
        ----------
        x
            Encoding, of shape (batch, *coarser grid, 2 * dim).
        skip
            Skip connection of the encoder, of shape (batch, *grid, dim).

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


def earth_blocks(
    dim: int,
    grid: tuple[int, ...],
    num_heads: int,
    window: tuple[int, ...],
    drop_path: Sequence[float],
    numerics: str = PAPER,
    post_norm: bool | None = None,
) -> nn.ModuleList:
    """Return earth-specific blocks, every second one with shifted windows.

    Parameters
    ----------
    dim
        Number of channels.
    grid
        Size of the grid, (level,) latitude and longitude.
    num_heads
        Number of attention heads.
    window
        Size of a window, along the same axes.
    drop_path
        Stochastic depth: drop probability of each block.
    numerics
        As in :class:`~physicsnemo.models.pangu.pangu.Pangu`.
    post_norm
        As in :class:`~physicsnemo.models.window_layers.WindowBlock`; by default as Pangu has
        it under these numerics.
    """
    if post_norm is None:
        post_norm = not has_oddity(numerics, "normalized_before")
    return nn.ModuleList(
        _earth_block(
            dim,
            grid=grid,
            num_heads=num_heads,
            window=window,
            drop_path=rate,
            numerics=numerics,
            post_norm=post_norm,
            shifted=index % 2 == 1,
        )
        for index, rate in enumerate(drop_path)
    )


def _earth_block(
    dim: int,
    *,
    grid: tuple[int, ...],
    num_heads: int,
    window: tuple[int, ...],
    drop_path: float,
    numerics: str,
    post_norm: bool,
    shifted: bool,
) -> WindowBlock:
    pads = centered_pads(grid, window)
    windows = Windows(padded_sizes(grid, pads), window)
    attention = EarthAttention(dim, windows, num_heads)
    if not shifted:
        return WindowBlock(
            dim,
            attention,
            pads,
            drop_path=drop_path,
            post_norm=post_norm,
            history=_HISTORY,
        )
    shift = tuple(width // 2 for width in window)
    if has_oddity(numerics, "fixed_shift"):
        shift = _REFERENCE_SHIFT[-len(window) :]
    # Some releases of nvidia-physicsnemo roll the longitude by the latitude's shift before
    # attention, and by its own afterwards.
    rolled = (*shift[:-1], shift[-2]) if has_oddity(numerics, "latitude_roll") else shift
    return WindowBlock(
        dim,
        attention,
        pads,
        roll=tuple(-step for step in rolled),
        unroll=shift,
        mask=partial(_shift_mask, windows, shift=shift, numerics=numerics),
        keep_mask=True,
        drop_path=drop_path,
        post_norm=post_norm,
        history=_HISTORY,
    )


def _shift_mask(windows: Windows, shift: tuple[int, ...], numerics: str) -> Tensor:
    """Window mask of shifted windows: separates the poles, and the first level from the last.

    A shift brings both ends of an axis into one window. Latitudes and levels end there, and must
    not attend to each other; longitudes go on around the globe, and do.
    """
    *others, (size, width, step) = zip(windows.grid, windows.window, shift, strict=True)
    labels = [rolled_labels(*axis) for axis in others]
    if not has_oddity(numerics, "dateline_mask"):
        # One label for all longitudes, and so one mask for all columns of windows.
        windows = Windows((*windows.grid[:-1], width), windows.window)
        return window_mask(windows, [*labels, torch.zeros(width)])
    # nvidia-physicsnemo means to join both sides of the first longitude by labels of an axis that
    # is longer by the shift, but the last window of its true length has two labels nevertheless.
    return window_mask(windows, [*labels, rolled_labels(size + step, width, step)[:size]])


class EarthAttention(nn.Module):
    """Window attention with an earth-specific bias.

    The bias depends on the absolute latitudes and levels of both points, and on the difference of
    their longitudes.

    Parameters
    ----------
    dim
        Number of channels.
    windows
        Window partition of the grid.
    num_heads
        Number of attention heads, which must divide ``dim``.

    Raises
    ------
    ValueError
        If ``num_heads`` does not divide ``dim``.

    References
    ----------
    Bi et al. 2023, Accurate medium-range global weather forecasting with 3D neural networks,
    arXiv:2211.02556.
    """

    earth_position_index: Tensor

    def __init__(self, dim: int, windows: Windows, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.windows = windows
        self.num_heads = num_heads
        *others, width = windows.window
        table = torch.empty(prod(others) ** 2 * (2 * width - 1), windows.types, num_heads)
        self.earth_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        # Part of the state in files; `_bias` reads the same entries without a gather.
        self.register_buffer("earth_position_index", earth_position_index(windows.window))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply attention within each window.

        Parameters
        ----------
        x
            Grids of shape (batch, *grid, dim).
        mask
            Window mask, added to the logits of all heads, of shape (columns or 1, types, points,
            points).

        Returns
        -------
        Grids of the shape of ``x``.
        """
        return attend(x, self.windows, bias=self._bias(), mask=mask, qkv=self.qkv, proj=self.proj)

    def _bias(self) -> Tensor:
        """Return the entries of the bias table that ``earth_position_index`` names."""
        *others, _ = self.windows.window
        pairs = [size for size in others for _ in range(2)]  # of the key, of the query
        table = self._table().unflatten(0, (*pairs, -1))
        last = len(pairs)
        queries, keys = range(1, last, 2), range(0, last, 2)
        table = table.permute(last + 1, last + 2, *queries, *keys, last)
        bias = toeplitz(table).movedim(-2, 2 + len(others))
        points, types, heads = self.windows.points, self.windows.types, self.num_heads
        return bias.reshape(1, types, heads, points, points)

    def _table(self) -> Tensor:
        return self.earth_position_bias_table


def earth_position_index(window: tuple[int, ...]) -> Tensor:
    """Compute the index into the bias table for each pair of points of a window.

    Parameters
    ----------
    window
        Size of a window, (level,) latitude and longitude.

    Returns
    -------
    Integers of shape (points, points), for queries and keys. From the fastest axis of the table to
    the slowest: difference of longitudes, latitude of the query, of the key, level of the query, of
    the key.
    """
    grid = torch.meshgrid(*(torch.arange(size) for size in window), indexing="ij")
    *others, longitude = (axis.flatten() for axis in grid)
    index = longitude[:, None] - longitude + window[-1] - 1
    stride = 2 * window[-1] - 1
    for size, position in zip(reversed(window[:-1]), reversed(others), strict=True):
        index = index + stride * (position[:, None] + size * position)
        stride *= size**2
    return index
