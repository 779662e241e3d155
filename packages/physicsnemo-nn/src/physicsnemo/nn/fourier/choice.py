# SPDX-License-Identifier: Apache-2.0
"""Matrix product or FFT: which of them computes a truncated Fourier transform faster."""

from collections.abc import Sequence

from physicsnemo.nn.tracing import is_exporting, is_tracing

# Numbers of modes up to which products took less time, whatever the number of points, and of points
# up to which they did, whatever the number of modes; tools.bench.transforms measures it. A product
# takes more operations than an FFT. But it computes no mode that is dropped and no complex numbers,
# takes channels last as they are, and is what tensor cores do.
_MATMUL_MODES = {"cuda": 256, "cpu": 64}
_MATMUL_MODES_ELSEWHERE = 64
_MATMUL_POINTS = 64

# Number of channels up to which products along the last axis are too small to occupy a GPU.
_FEW_CHANNELS = 64


def prefer_matmul(n: int, kept: int, device_type: str) -> bool:
    """Return whether a Fourier transform along an axis should be a matrix product, not an FFT.

    Parameters
    ----------
    n
        Number of points of the axis.
    kept
        Number of modes kept.
    device_type
        Type of the device, as ``cuda``.
    """
    if is_tracing():
        return True  # the number of points is not known, and a trace serves all
    few_modes = kept <= _MATMUL_MODES.get(device_type, _MATMUL_MODES_ELSEWHERE)
    return few_modes or n <= _MATMUL_POINTS


def prefer_first_axis(
    grid: Sequence[int], kept: Sequence[int], channels: int, device_type: str
) -> bool:
    """Return whether matrix products should begin with the first axis of a field, not the last.

    A product along the last axis has as many columns as there are channels, one along the first as
    many as there are channels and points of all other axes. Few columns leave most of a GPU idle.
    But a real field has half as much data as its modes: beginning with the first axis, that must
    be made up for by modes that are dropped.

    Parameters
    ----------
    grid
        Number of points of each axis.
    kept
        Number of modes kept of each.
    channels
        Number of channels.
    device_type
        Type of the device, as ``cuda``.
    """
    if device_type != "cuda" or is_tracing() or is_exporting():
        return False
    if len(grid) < 2 or channels > _FEW_CHANNELS:
        return False
    halved = all(2 * count <= n for n, count in zip(grid[:-1], kept[:-1], strict=True))
    return halved and all(
        prefer_matmul(n, count, device_type) for n, count in zip(grid, kept, strict=True)
    )


product_wins = prefer_matmul  # its former name
