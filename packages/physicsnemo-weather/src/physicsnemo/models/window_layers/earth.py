# SPDX-License-Identifier: Apache-2.0
"""Earth-specific transformers: windows on the sphere, whose attention depends on the latitude."""

from collections.abc import Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from physicsnemo.models.history import Renamed
from physicsnemo.models.window_layers._checks import check_heads
from physicsnemo.models.window_layers.attention import attend, toeplitz
from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.padding import centred_pads, padded_sizes
from physicsnemo.models.window_layers.windows import Windows, rolled_labels, separation
from physicsnemo.nn.numerics import PAPER, has_oddity

# Level, latitude and longitude: half of the default window. nvidia-physicsnemo shifts any by it.
_REFERENCE_SHIFT = (1, 3, 6)
_HISTORY = (
    Renamed("mlp.fc1.", "mlp.layers.0.", since="1.3"),
    Renamed("mlp.fc2.", "mlp.layers.2.", since="1.3"),
)


class EarthAttention(nn.Module):
    """Attention within windows that adds a learned bias to the logits.

    The bias depends on the latitudes, and the levels, of both points and of their window, but not
    on the longitude: only on the difference of longitudes.

    Parameters
    ----------
    dim
        Channels.
    windows
        The windows, of latitude and longitude or of level, latitude and longitude.
    num_heads
        Number of heads; it must divide ``dim``.

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
        # Part of the state; `_bias` does without it.
        self.register_buffer("earth_position_index", earth_position_index(windows.window))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the points of each window.

        Parameters
        ----------
        x
            Grids of shape (batch, *windows.grid, dim).
        mask
            What to add to the logits of all heads, of shape (columns or 1, types, points, points).

        Returns
        -------
        Grids of the shape of ``x``.
        """
        return attend(x, self.windows, self._bias(), mask, self.qkv, self.proj)

    def _bias(self) -> Tensor:
        """Return the entries of the table that ``earth_position_index`` names.

        They depend on each latitude and level, and on the difference of longitudes.
        """
        *others, _ = self.windows.window
        pairs = [size for size in others for _ in range(2)]  # of the key, of the query
        table = self.earth_position_bias_table.unflatten(0, (*pairs, -1))
        last = len(pairs)
        queries, keys = range(1, last, 2), range(0, last, 2)
        table = table.permute(last + 1, last + 2, *queries, *keys, last)
        bias = toeplitz(table).movedim(-2, 2 + len(others))
        points, types, heads = self.windows.points, self.windows.types, self.num_heads
        return bias.reshape(1, types, heads, points, points)


def earth_position_index(window: tuple[int, ...]) -> Tensor:
    """Return which entry of a bias table belongs to each pair of points of a window.

    Parameters
    ----------
    window
        Points along (level,) latitude and longitude.

    Returns
    -------
    Whole numbers of shape (points, points), for queries and keys: the difference of longitudes
    counts fastest, then the latitude of the query and of the key, then their levels.
    """
    grid = torch.meshgrid(*(torch.arange(size) for size in window), indexing="ij")
    *others, longitude = (axis.flatten() for axis in grid)
    index = longitude[:, None] - longitude + window[-1] - 1
    stride = 2 * window[-1] - 1
    for size, position in zip(reversed(window[:-1]), reversed(others), strict=True):
        index = index + stride * (position[:, None] + size * position)
        stride *= size**2
    return index


def earth_blocks(
    dim: int,
    grid: tuple[int, ...],
    num_heads: int,
    window: tuple[int, ...],
    drop_path: Sequence[float],
    numerics: str = PAPER,
    post_norm: bool | None = None,
) -> nn.ModuleList:
    """Return blocks of which every second one shifts its windows.

    Parameters
    ----------
    dim
        Channels.
    grid
        Points along latitude and longitude, or level, latitude and longitude.
    num_heads
        Number of heads.
    window
        Points of a window along these axes.
    drop_path
        For each block, the probability of leaving out a branch in training.
    numerics
        As in :class:`~physicsnemo.models.pangu.Pangu`.
    post_norm
        As in :class:`~physicsnemo.models.window_layers.WindowBlock`; by default, as Pangu has it:
        true of ``paper``, and of no other numerics.
    """
    after = numerics == PAPER if post_norm is None else post_norm
    return nn.ModuleList(
        _earth_block(dim, grid, num_heads, window, rate, numerics, after, shifted=index % 2 == 1)
        for index, rate in enumerate(drop_path)
    )


def _earth_block(
    dim: int,
    grid: tuple[int, ...],
    num_heads: int,
    window: tuple[int, ...],
    drop_path: float,
    numerics: str,
    post_norm: bool,
    shifted: bool,
) -> WindowBlock:
    pads = centred_pads(grid, window)
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
    half = tuple(width // 2 for width in window)
    shift = half if numerics == PAPER else _REFERENCE_SHIFT[-len(window) :]
    # nvidia-physicsnemo takes the latitude's shift for the longitude on the way there.
    there = (*shift[:-1], shift[-2]) if has_oddity(numerics, "latitude_roll") else shift
    return WindowBlock(
        dim,
        attention,
        pads,
        roll=tuple(-step for step in there),
        unroll=shift,
        mask=partial(_shift_mask, windows, shift, numerics),
        keep_mask=True,
        drop_path=drop_path,
        post_norm=post_norm,
        history=_HISTORY,
    )


def _shift_mask(windows: Windows, shift: tuple[int, ...], numerics: str) -> Tensor:
    """Keep apart the poles, and the ends of the levels, that a shift brought into one window."""
    *others, (size, width, step) = zip(windows.grid, windows.window, shift, strict=True)
    labels = [rolled_labels(*axis) for axis in others]
    if numerics == PAPER:  # the longitude has no ends, so all columns of windows have one mask
        windows = Windows((*windows.grid[:-1], width), windows.window)
        return separation(windows, [*labels, torch.zeros(width)])
    # nvidia-physicsnemo means to join the ends of the longitude, but has a label too many.
    return separation(windows, [*labels, rolled_labels(size + step, width, step)[:size]])
