# SPDX-License-Identifier: Apache-2.0
"""Stages of a Swin transformer: windows on a plane, with a bias by relative position."""

import torch
from torch import Tensor, nn

from physicsnemo.models.window_layers._checks import check_heads
from physicsnemo.models.window_layers.attention import WindowBlock, attend
from physicsnemo.models.window_layers.padding import (
    centred_pads,
    crop_grid,
    pad_grid,
    padded_sizes,
)
from physicsnemo.models.window_layers.windows import Windows, rolled_labels, separation


class SwinTransformer(nn.Module):
    """Pad fields until windows fill them, apply a stage of blocks, and crop.

    Parameters
    ----------
    dim
        Channels.
    grid
        Height and width of the fields.
    num_heads
        Number of heads; it must divide ``dim``.
    window_size
        Height and width of a window.
    depth
        Number of blocks; every second one shifts its windows by half.

    Raises
    ------
    ValueError
        If ``num_heads`` does not divide ``dim``.

    References
    ----------
    Liu et al. 2021, Swin transformer: hierarchical vision transformer using shifted windows,
    arXiv:2103.14030.
    """

    def __init__(
        self, dim: int, grid: tuple[int, ...], num_heads: int, window_size: int, depth: int
    ) -> None:
        super().__init__()
        self.pads = centred_pads(grid, (window_size, window_size))
        grid = padded_sizes(grid, self.pads)
        self.layer = _Stage(dim, Windows(grid, (window_size, window_size)), num_heads, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, height, width, dim) to fields of that shape."""
        return crop_grid(self.layer(pad_grid(x, self.pads)), self.pads)


class SwinAttention(nn.Module):
    """Attention within windows that adds a learned bias to the logits, by relative position.

    Parameters
    ----------
    dim
        Channels.
    windows
        The windows.
    num_heads
        Number of heads; it must divide ``dim``.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, windows: Windows, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.windows = windows
        height, width = windows.window
        table = torch.empty((2 * height - 1) * (2 * width - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.normal_(table, std=0.02))
        index = relative_position_index(height, width)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the points of each window.

        Parameters
        ----------
        x
            Fields of shape (batch, *windows.grid, dim).
        mask
            What to add to the logits of all heads, of shape (columns, types, points, points).

        Returns
        -------
        Fields of the shape of ``x``.
        """
        points = self.windows.points
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.t().contiguous().view(1, 1, -1, points, points)
        if mask is not None:
            bias = bias + mask.unsqueeze(2)
        output: Tensor = self.proj(attend(self.qkv(x), self.windows, bias))
        return output


class _Stage(nn.Module):
    """Blocks under the name that checkpoints have for them."""

    def __init__(self, dim: int, windows: Windows, num_heads: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _swin_block(dim, windows, num_heads, shifted=index % 2 == 1) for index in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def relative_position_index(height: int, width: int) -> Tensor:
    """Return which entry of a bias table belongs to each pair of points of a window.

    Returns
    -------
    Whole numbers of shape (points, points), for queries and keys: the difference of columns counts
    fastest, then that of rows.
    """
    rows, columns = (
        axis.flatten()
        for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    down = rows[:, None] - rows + height - 1
    across = columns[:, None] - columns + width - 1
    return down * (2 * width - 1) + across


def _swin_block(dim: int, windows: Windows, num_heads: int, shifted: bool) -> WindowBlock:
    attention = SwinAttention(dim, windows, num_heads)
    pads = ((0, 0), (0, 0))
    # A single window along an axis already holds all its points.
    shift = tuple(
        width // 2 if count > 1 else 0
        for count, width in zip(windows.counts, windows.window, strict=True)
    )
    if not (shifted and any(shift)):
        return WindowBlock(dim, attention, pads)
    axes = zip(windows.grid, windows.window, shift, strict=True)
    mask = separation(windows, [rolled_labels(*axis) for axis in axes])
    back = tuple(-step for step in shift)
    return WindowBlock(dim, attention, pads, roll=back, unroll=shift, mask=mask)
