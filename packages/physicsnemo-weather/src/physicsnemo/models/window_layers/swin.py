# SPDX-License-Identifier: Apache-2.0
"""Swin transformer stages: shifted-window attention with a relative position bias."""

from functools import partial

import torch
from torch import Tensor, nn

from physicsnemo.models.window_layers.attention import attend, check_heads, toeplitz
from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.windows import (
    Windows,
    centered_pads,
    crop_grid,
    pad_grid,
    padded_sizes,
    rolled_labels,
    window_mask,
)


class SwinTransformer(nn.Module):
    """Swin transformer stage on fields of any size, which are padded to whole windows and cropped.

    Parameters
    ----------
    dim
        Number of channels.
    grid
        Height and width of the fields.
    num_heads
        Number of attention heads, which must divide ``dim``.
    window_size
        Height and width of a window.
    depth
        Number of blocks; every second one shifts its windows by half their size.

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
        self.pads = centered_pads(grid, (window_size, window_size))
        grid = padded_sizes(grid, self.pads)
        windows = Windows(grid, (window_size, window_size))
        self.layer = _Stage(dim, windows, num_heads=num_heads, depth=depth)

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, height, width, dim) to fields of the same shape."""
        return crop_grid(self.layer(pad_grid(x, self.pads)), self.pads)


class SwinAttention(nn.Module):
    """Window attention with a relative position bias.

    Parameters
    ----------
    dim
        Number of channels.
    windows
        Window partition of the fields.
    num_heads
        Number of attention heads, which must divide ``dim``.
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
        """Apply attention within each window.

        Parameters
        ----------
        x
            Fields of shape (batch, *windows.grid, dim).
        mask
            Window mask, added to the logits of all heads, of shape
            (columns, types, points, points).

        Returns
        -------
        Fields of the shape of ``x``.
        """
        return attend(x, self.windows, bias=self._bias(), mask=mask, qkv=self.qkv, proj=self.proj)

    def _bias(self) -> Tensor:
        """Look up the bias table by the differences of rows and, as the faster axis, of columns."""
        height, _ = self.windows.window
        table = self.relative_position_bias_table.t().unflatten(-1, (2 * height - 1, -1))
        # From (heads, rows, columns, columns) to (heads, columns, columns, rows, rows).
        bias = toeplitz(toeplitz(table).movedim(1, -1))
        points = self.windows.points
        return bias.permute(0, 3, 1, 4, 2).reshape(1, 1, -1, points, points)


class _Stage(nn.Module):
    """Blocks, under the name that they have in checkpoints."""

    def __init__(self, dim: int, windows: Windows, *, num_heads: int, depth: int) -> None:
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
    # No shift along an axis that has a single window, which holds all its points already.
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
    """Mask pairs of points from opposite sides of the plane, which a shift brings together."""
    axes = zip(windows.grid, windows.window, shift, strict=True)
    return window_mask(windows, [rolled_labels(*axis) for axis in axes])
