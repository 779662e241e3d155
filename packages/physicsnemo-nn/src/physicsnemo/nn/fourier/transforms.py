# SPDX-License-Identifier: Apache-2.0
r"""Truncated Fourier transforms over all axes of a grid.

Only some modes are wanted, so the transform along an axis is a product with a small matrix, which
runs where matrix products run and in the precision that autocast chooses for them. Where so many
modes are wanted that a fast Fourier transform takes less time, that is used instead; see
:func:`~physicsnemo.nn.fourier.choice.prefer_matmul`.

Fields have shape (batch, n1, ..., nd, channels), modes (batch, parts, k1, ..., kd, channels) with
the real and the imaginary part. With both parts as the axis before the modes, the transform along
each axis is one product, and no data is moved in between.

In float32, no value is off by more than a hundred-thousandth of the largest. Under autocast,
products round their factors and results to half precision and sum in float32, and fast transforms
round nothing but their results: fields that go to modes and come back are off by at most 0.8 % of
their norm in bfloat16, and 0.1 % in float16. That is relative to the whole field: what varies
little around a large mean loses more, so normalize fields before.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from physicsnemo.nn.fourier.choice import prefer_first_axis, prefer_matmul
from physicsnemo.nn.fourier.fast import (
    complex_modes,
    complex_values,
    real_modes,
    real_values,
)
from physicsnemo.nn.fourier.frequencies import Frequencies, check_frequencies, runs
from physicsnemo.nn.fourier.matrices import (
    dft,
    dft_matrix,
    idft,
    irdft,
    lines_from_lines,
    lines_to_lines,
    lines_to_modes,
    lines_to_real,
    modes_to_lines,
    rdft,
    real_to_lines,
)
from physicsnemo.nn.precision import widened
from physicsnemo.nn.tracing import is_tracing

__all__ = [
    "Norm",
    "Rows",
    "complex_to_modes",
    "concrete",
    "modes_to_complex",
    "to_field",
    "to_modes",
    "widened",
]

Rows = tuple[int, int, int]
"""Which points of an axis a part of it holds: the first, the one after the last, and how many the
whole axis has."""

Norm = Literal["forward", "ortho"]
"""Normalization, which divides the transform to modes by the number of points, or both by its
root."""


def to_modes(
    field: Tensor,
    frequencies: Sequence[Frequencies],
    norm: Norm = "forward",
    rows: Rows | None = None,
) -> Tensor:
    r"""Return the truncated Fourier transform of real fields.

    Parameters
    ----------
    field
        Fields of shape (batch, n1, ..., nd, channels).
    frequencies
        Which modes to keep along each axis: of the last one 0, 1, 2, ..., up to half the number of
        points, since negative frequencies follow by symmetry; of others any.
    norm
        Normalization along each axis: ``forward`` for
        :math:`\frac1n \sum_j f_j e^{-2 \pi i k j / n}`, ``ortho`` for :math:`\frac1{\sqrt n}` in
        place of :math:`\frac1n`.
    rows
        If the field holds some points of the first axis only, which: ``(first, stop, n1)``. The
        modes are then those of a field that is zero elsewhere, so that those of all parts add up.

    Returns
    -------
    Modes of shape (batch, 2, k1, ..., kd, channels): the real and then the imaginary parts.

    Raises
    ------
    TypeError
        If the fields do not hold real floating-point numbers.
    ValueError
        If the grid does not have these frequencies.
    """
    batch, *points, channels = field.shape
    grid = points if rows is None else [rows[2], *points[1:]]
    _check(field, grid, frequencies)
    if prefer_first_axis(grid, list(map(len, frequencies)), channels, field.device.type):
        return _to_modes_from_first_axis(field, grid, frequencies, norm, rows)
    # Axis by axis from the last one, whose values are real. An axis that is done counts as channels
    # of those before it, so that each transform is one product, and nothing is moved in between.
    scales = [1 / n if norm == "forward" else n**-0.5 for n in grid]
    parts = [rows, *[None] * (len(grid) - 1)]
    modes = _real_to_modes(field, len(frequencies[-1]), scale=scales[-1], rows=parts[-1])
    rest = len(frequencies[-1]) * channels
    for axis in range(len(grid) - 2, -1, -1):
        modes = modes.reshape(-1, points[axis], 2, rest)
        modes = _complex_to_modes(modes, frequencies[axis], scale=scales[axis], rows=parts[axis])
        rest = len(frequencies[axis]) * rest
    return modes.reshape(batch, 2, *map(len, frequencies), channels)


def to_field(
    modes: Tensor,
    grid: Sequence[int],
    frequencies: Sequence[Frequencies],
    norm: Norm = "forward",
    rows: Rows | None = None,
) -> Tensor:
    """Return the inverse of :func:`to_modes`: real fields that have these modes, and no others.

    The modes need not be those of a real field: a mode that is its own mirror image along the last
    axis contributes the real part of its wave, any other one twice that.

    Parameters
    ----------
    modes
        Modes of shape (batch, 2, k1, ..., kd, channels).
    grid
        The numbers of points n1, ..., nd.
    frequencies
        Which modes these are, as for :func:`to_modes`.
    norm
        Normalization, as for :func:`to_modes`.
    rows
        The points of the first axis to return, ``(first, stop, n1)``, by default all.

    Returns
    -------
    Fields of shape (batch, n1, ..., nd, channels).

    Raises
    ------
    TypeError
        If the modes do not hold real floating-point numbers.
    ValueError
        If the grid does not have these frequencies, or the modes have another shape.
    """
    _check(modes, grid, frequencies)
    batch, parts, *sizes, channels = modes.shape
    expected = (2, *map(len, frequencies))
    if not is_tracing() and (parts, *sizes) != expected:
        raise ValueError(
            f"expected modes of shape (batch, {', '.join(map(str, expected))}, channels), "
            f"got {tuple(modes.shape)}"
        )
    if prefer_first_axis(grid, list(map(len, frequencies)), channels, modes.device.type):
        return _to_field_by_first_axis(modes, grid, frequencies, norm, rows)
    scales = [1 if norm == "forward" else n**-0.5 for n in grid]
    rest = math.prod(sizes[1:]) * channels
    wanted = [rows, *[None] * (len(grid) - 1)]
    points = grid if rows is None else [rows[1] - rows[0], *grid[1:]]
    values = modes
    for axis, (n, kept) in enumerate(zip(grid[:-1], frequencies[:-1], strict=True)):
        values = values.reshape(-1, 2, len(kept), rest)
        values = _complex_to_values(values, n=n, kept=kept, scale=scales[axis], rows=wanted[axis])
        rest = rest // len(frequencies[axis + 1])
    values = values.reshape(-1, 2, len(frequencies[-1]), channels)
    field = _modes_to_real(values, grid[-1], scale=scales[-1], rows=wanted[-1])
    return field.reshape(batch, *points, channels)


def _to_modes_from_first_axis(
    field: Tensor,
    grid: Sequence[int],
    frequencies: Sequence[Frequencies],
    norm: Norm,
    rows: Rows | None,
) -> Tensor:
    """Transform axis by axis from the first one, all by products.

    Axes that follow count as channels, and the kept modes of those before as samples. Both parts
    are the axis before the next to transform, so that no data is moved in between.
    """
    batch, *points, channels = field.shape
    scales = [1 / n if norm == "forward" else n**-0.5 for n in grid]
    matrix = dft_matrix(real_to_lines, grid[0], frequencies[0], scales[0], like=field)
    matrix = matrix if rows is None else matrix[:, rows[0] : rows[1]]
    values = torch.matmul(matrix, field.reshape(batch, points[0], math.prod(points[1:]) * channels))
    lines = batch
    for axis, (n, kept) in enumerate(zip(grid[1:], frequencies[1:], strict=True), start=1):
        lines *= len(frequencies[axis - 1])
        rest = math.prod(points[axis + 1 :]) * channels
        make = lines_to_modes if axis == len(grid) - 1 else lines_to_lines
        matrix = dft_matrix(make, n, kept, scales[axis], like=values)
        values = torch.matmul(matrix, values.reshape(lines, 2 * n, rest))
    *others, last = map(len, frequencies)
    return values.reshape(batch, *others, 2, last, channels).movedim(len(grid), 1)


def _to_field_by_first_axis(
    modes: Tensor,
    grid: Sequence[int],
    frequencies: Sequence[Frequencies],
    norm: Norm,
    rows: Rows | None,
) -> Tensor:
    """Invert :func:`_to_modes_from_first_axis`, from the last axis to the first one."""
    batch, channels = modes.shape[0], modes.shape[-1]
    scales = [1 if norm == "forward" else n**-0.5 for n in grid]
    sizes = list(map(len, frequencies))
    values = modes.movedim(1, len(grid))
    rest = channels
    for axis in range(len(grid) - 1, 0, -1):
        make = modes_to_lines if axis == len(grid) - 1 else lines_from_lines
        matrix = dft_matrix(make, grid[axis], frequencies[axis], scales[axis], like=values)
        lines = batch * math.prod(sizes[:axis])
        values = torch.matmul(matrix, values.reshape(lines, 2 * sizes[axis], rest))
        rest *= grid[axis]
    matrix = dft_matrix(lines_to_real, grid[0], frequencies[0], scales[0], like=values)
    matrix = matrix if rows is None else matrix[rows[0] : rows[1]]
    field = torch.matmul(matrix, values.reshape(batch, 2 * sizes[0], rest))
    return field.reshape(batch, matrix.shape[0], *grid[1:], channels)


def complex_to_modes(values: Tensor, kept: Frequencies, norm: Norm = "forward") -> Tensor:
    """Return the truncated Fourier transform of complex values along one axis.

    Parameters
    ----------
    values
        Values of shape (batch, n, 2, rest), real and imaginary parts along the third axis.
    kept
        Which modes to keep, any.
    norm
        Normalization, as for :func:`to_modes`.

    Returns
    -------
    Modes of shape (batch, 2, kept, rest).
    """
    n = values.shape[1]
    scale = 1 / n if norm == "forward" else n**-0.5
    return _complex_to_modes(values, kept, scale=scale, rows=None)


def modes_to_complex(modes: Tensor, n: int, kept: Frequencies, norm: Norm = "forward") -> Tensor:
    """Return the inverse of :func:`complex_to_modes`: values at ``n`` points.

    Parameters
    ----------
    modes
        Modes of shape (batch, 2, kept, rest).
    n
        The number of points.
    kept, norm
        As for :func:`complex_to_modes`.

    Returns
    -------
    Values of shape (batch, n, 2, rest).
    """
    scale = 1 if norm == "forward" else n**-0.5
    return _complex_to_values(modes, n=n, kept=kept, scale=scale, rows=None)


def concrete(size: int) -> int:
    """Return a size as a constant integer, in a trace too."""
    if not is_tracing():
        return size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a trace that it will not generalize
        return int(size)


def _check(x: Tensor, grid: Sequence[int], frequencies: Sequence[Frequencies]) -> None:
    if not x.is_floating_point():
        raise TypeError(f"expected real floating-point numbers, got {x.dtype}")
    if not is_tracing():  # a trace drops comparisons, and warns of each
        check_frequencies(grid, frequencies)


def _real_to_modes(field: Tensor, count: int, scale: float, rows: Rows | None) -> Tensor:
    """Map (..., n, channels) to (..., 2, count, channels)."""
    n = field.shape[-2] if rows is None else rows[2]
    if rows or prefer_matmul(n, count, field.device.type):  # a fast transform needs all points
        matrix = dft_matrix(rdft, n, tuple(range(count)), scale, like=field)
        matrix = matrix if rows is None else matrix[:, rows[0] : rows[1]]
        modes = torch.matmul(matrix, field)
        return modes.view(*modes.shape[:-2], 2, count, modes.shape[-1])
    return real_modes(field, scale)[..., :count, :]


def _complex_to_modes(values: Tensor, kept: Frequencies, scale: float, rows: Rows | None) -> Tensor:
    """Map (lines, n, 2, rest) to (lines, 2, kept, rest)."""
    lines, points, _, rest = values.shape
    n = points if rows is None else rows[2]
    if rows or prefer_matmul(n, len(kept), values.device.type):
        matrix = dft_matrix(dft, n, kept, scale, like=values)
        matrix = matrix if rows is None else matrix[:, 2 * rows[0] : 2 * rows[1]]
        products = torch.matmul(matrix, values.reshape(lines, 2 * points, rest))
        return products.view(lines, 2, len(kept), rest)
    return _gather(complex_modes(values, scale), kept)


def _complex_to_values(
    modes: Tensor, n: int, kept: Frequencies, scale: float, rows: Rows | None
) -> Tensor:
    """Map (lines, 2, kept, rest) to (lines, n, 2, rest)."""
    lines, _, _, rest = modes.shape
    if rows or prefer_matmul(n, len(kept), modes.device.type):
        matrix = dft_matrix(idft, n, kept, scale, like=modes)
        matrix = matrix if rows is None else matrix[2 * rows[0] : 2 * rows[1]]
        products = torch.matmul(matrix, modes.reshape(lines, 2 * len(kept), rest))
        points = n if rows is None else rows[1] - rows[0]
        return products.view(lines, points, 2, rest)
    return complex_values(_scatter(modes, kept, n), scale)


def _modes_to_real(modes: Tensor, n: int, scale: float, rows: Rows | None) -> Tensor:
    """Map (lines, 2, count, channels) to (lines, n, channels)."""
    count = modes.shape[-2]
    if rows or prefer_matmul(n, count, modes.device.type):
        matrix = dft_matrix(irdft, n, tuple(range(count)), scale, like=modes)
        matrix = matrix if rows is None else matrix[rows[0] : rows[1]]
        values: Tensor = torch.matmul(matrix, modes.flatten(-3, -2))
        return values
    missing = n // 2 + 1 - count
    return real_values(torch.nn.functional.pad(modes, (0, 0, 0, missing)), n, scale)


def _gather(modes: Tensor, kept: Frequencies) -> Tensor:
    """Return the kept of all modes, (lines, 2, n, rest)."""
    n = modes.shape[2]
    parts = [modes.narrow(2, _position(first, n), end - first) for first, end in runs(kept)]
    return torch.cat(parts, dim=2)


def _scatter(modes: Tensor, kept: Frequencies, n: int) -> Tensor:
    """Return all modes, of which those that are not kept are zero."""
    spectrum = modes.new_zeros(*modes.shape[:2], n, modes.shape[3])
    taken = 0
    for first, end in runs(kept):
        count = end - first
        start = _position(first, n)
        part = modes.narrow(2, taken, count)
        spectrum = spectrum.slice_scatter(part, 2, start, start + count)
        taken += count
    return spectrum


def _position(frequency: int, n: int) -> int:
    return frequency if frequency >= 0 else n + frequency
