# SPDX-License-Identifier: Apache-2.0
"""What tensors of SFNO with other shapes have in common, for :func:`physicsnemo.utils.adapt`.

The entry-point group ``physicsnemo.adaptation`` names this module.
"""

from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.sfno._layers import FrequencyEmbedding, SpectralFilter
from physicsnemo.models.sfno._sht import SphericalGrid
from physicsnemo.models.sfno.sfno import SFNO
from physicsnemo.utils.adaptation import Change, Rules, overlap


def _filter(change: Change) -> Tensor | None:
    """Carry over degrees (and orders) from the lowest on; those that were not there are zero."""
    if change.old.ndim != change.fresh.ndim:
        return None
    return overlap(change.old, change.fresh, reads=[0, *range(2, change.fresh.ndim - 1)])


def _coefficients(change: Change) -> Tensor:
    """Carry over coefficients of a field, (channels, degrees, orders, parts)."""
    return overlap(change.old, change.fresh, reads=[1, 2])


def _field(change: Change) -> Tensor:
    """Interpolate a field to another grid, linearly in colatitude and longitude."""
    before, after = (_grid(it) for it in (change.before, change.after))
    rows = _interpolated(change.old, 1, _colatitudes(before), _colatitudes(after))
    # One longitude more, since the last one is a neighbor of the first.
    closed = torch.cat((rows, rows[..., :1]), dim=2)
    places = (torch.linspace(0, 1, it.nlon + 1, dtype=torch.float64) for it in (before, after))
    old, new = places
    return overlap(_interpolated(closed, 2, old, new[:-1]), change.fresh)


def _grid(model: Any) -> SphericalGrid:
    grid: SphericalGrid = model.forward_transforms[0].grid
    return grid


def _colatitudes(grid: SphericalGrid) -> Tensor:
    return grid.nodes().clamp(-1, 1).arccos()


def _interpolated(values: Tensor, axis: int, old: Tensor, new: Tensor) -> Tensor:
    """Interpolate linearly between rising places along an axis; beyond them values are constant."""
    old, new = old.to(values.device), new.to(values.device)
    above = torch.searchsorted(old, new).clamp(1, len(old) - 1)
    weight = ((new - old[above - 1]) / (old[above] - old[above - 1])).clamp(0, 1)
    shape = [-1 if it == axis else 1 for it in range(values.ndim)]
    lower, upper = (values.index_select(axis, it) for it in (above - 1, above))
    return lower + weight.to(values.dtype).view(shape) * (upper - lower)


RULES = {
    SFNO: Rules({"pos_embed.field": _field}),
    SpectralFilter: Rules({"weight": _filter}),
    FrequencyEmbedding: Rules({"coefficients": _coefficients}),
}
