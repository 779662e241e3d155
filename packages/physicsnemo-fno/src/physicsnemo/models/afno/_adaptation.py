# SPDX-License-Identifier: Apache-2.0
"""What tensors of AFNO with other shapes have in common, for :func:`physicsnemo.utils.adapt`.

The entry-point group ``physicsnemo.adaptation`` names this module. Channels of tokens are divided
into blocks, whose weights are carried over as wholes.
"""

from typing import Any

from torch import Tensor

from physicsnemo.models.afno._filter import AFNO2DLayer
from physicsnemo.models.afno.afno import AFNO
from physicsnemo.models.afno.modafno import ModAFNO
from physicsnemo.utils.adaptation import Change, Rules, overlap, resampled


def _positions(change: Change) -> Tensor:
    """Interpolate the positions' embeddings from grid to grid of patches."""
    before, after = (_grid(it) for it in (change.before, change.after))
    on_grid = change.old[0].T.unflatten(1, before)
    embedded = resampled(on_grid, after).flatten(1).T[None]
    return overlap(embedded, change.fresh)


def _grid(model: Any) -> tuple[int, int]:
    rows, columns = model.patch_embed.grid
    return rows, columns


def _patch(model: Any) -> tuple[int, int]:
    height, width = model.patch_embed.patch_size
    return height, width


def _head(change: Change) -> Tensor | None:
    """Carry over output channels, which are the fastest in a patch."""
    before, after = (_patch(it) for it in (change.before, change.after))
    if before != after:
        return None
    old, fresh = (it.unflatten(0, (*after, -1)) for it in (change.old, change.fresh))
    return overlap(old, fresh, reads=[3]).flatten(0, 2)


def _blocks(change: Change) -> Tensor | None:
    """Carry over whole blocks of channels: (parts, blocks, channels in) or with (channels out)."""
    if change.old.shape[2:] != change.fresh.shape[2:]:
        return None
    return overlap(change.old, change.fresh)


_MODEL = Rules({"pos_embed": _positions, "head.weight": _head})
RULES = {AFNO: _MODEL, ModAFNO: _MODEL, AFNO2DLayer: Rules({"[wb]?": _blocks})}
