# SPDX-License-Identifier: Apache-2.0
"""Stages of a Swin transformer: windows on a plane, with a bias by relative position."""

from functools import partial

import torch
from torch import Tensor, nn

from physicsnemo.models.window_layers._checks import check_heads
from physicsnemo.models.window_layers.attention import attend, toeplitz
from physicsnemo.models.window_layers.blocks import WindowBlock
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

    def __init__(self, dim: int, windows: Windows, num_heads: int) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.windows = windows
        height, width = windows.window
        table = torch.empty((2 * height - 1) * (2 * width - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
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
        return attend(x, self.windows, self._bias(), mask, self.qkv, self.proj)

    def _bias(self) -> Tensor:
        """Look up the table by the differences of rows and, counting faster, of columns."""
        height, _ = self.windows.window
        table = self.relative_position_bias_table.t().unflatten(-1, (2 * height - 1, -1))
        # From (heads, rows, columns, columns) to (heads, columns, columns, rows, rows).
        bias = toeplitz(toeplitz(table).movedim(1, -1))
        points = self.windows.points
        return bias.permute(0, 3, 1, 4, 2).reshape(1, 1, -1, points, points)


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
    mask = partial(_shift_mask, windows, shift)
    back = tuple(-step for step in shift)
    return WindowBlock(dim, attention, pads, roll=back, unroll=shift, mask=mask)


def _shift_mask(windows: Windows, shift: tuple[int, ...]) -> Tensor:
    """Keep apart the sides of the plane that a shift brought into one window."""
    axes = zip(windows.grid, windows.window, shift, strict=True)
    return separation(windows, [rolled_labels(*axis) for axis in axes])
