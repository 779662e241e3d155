# SPDX-License-Identifier: Apache-2.0
"""What tensors of window attention with other shapes have in common.

For :func:`physicsnemo.utils.adapt`: the entry-point group ``physicsnemo.adaptation`` names this
module. Masks and indices follow from grid and window, and are never carried over.
"""

from collections.abc import Collection
from typing import cast

from torch import Tensor
from torch.nn import functional

from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.earth import EarthAttention
from physicsnemo.models.window_layers.patches import DownSample, PatchRecovery, UpSample
from physicsnemo.utils.adaptation import Change, Rule, Rules, overlap


def _table(change: Change) -> Tensor | None:
    """Interpolate the bias between windows' latitudes, and carry over heads.

    The table is of shape (pairs of points of a window, types of windows, heads). Types differ in
    (level and) latitude.
    """
    before, after = (cast(EarthAttention, it).windows for it in (change.before, change.after))
    if before.window != after.window or before.counts[:-2] != after.counts[:-2]:
        return None
    rows = change.old.unflatten(1, (-1, before.counts[-2])).movedim(-1, 1)  # latitudes last
    flat = rows.flatten(0, 1)
    # At centers of windows; the first and last of a finer grid take the nearest.
    found = functional.interpolate(flat, after.counts[-2], mode="linear", align_corners=False)
    table = found.unflatten(0, rows.shape[:2]).movedim(1, -1).flatten(1, 2)
    return overlap(table, change.fresh)


def _heads(change: Change) -> Tensor | None:
    """Carry over queries, keys and values of whole heads."""
    before, after = (cast(EarthAttention, it).num_heads for it in (change.before, change.after))
    old = change.old.unflatten(0, (3, before, -1))
    fresh = change.fresh.unflatten(0, (3, after, -1))
    if old.shape[2] != fresh.shape[2]:
        return None
    reads = [3] if fresh.ndim > 3 else []
    return overlap(old, fresh, reads=reads).flatten(0, 2)


def _parts(axis: int, count: int, reads: Collection[int] = ()) -> Rule:
    """Return a rule for channels that stand side by side along an axis.

    Parameters
    ----------
    axis
        The axis, which becomes two: so many parts, and the channels of each.
    count
        Number of parts.
    reads
        Axes of inputs, after that.
    """

    def rule(change: Change) -> Tensor | None:
        if change.old.shape[2:] != change.fresh.shape[2:]:
            return None
        old, fresh = (it.unflatten(axis, (count, -1)) for it in (change.old, change.fresh))
        return overlap(old, fresh, reads=reads).flatten(axis, axis + 1)

    return rule


RULES = {
    EarthAttention: Rules(
        {"earth_position_bias_table": _table, "qkv.*": _heads},
        constants=["earth_position_index"],
    ),
    WindowBlock: Rules(constants=["attn_mask"]),
    DownSample: Rules({"linear.weight": _parts(1, 4, reads=[1, 2]), "norm.*": _parts(0, 4)}),
    UpSample: Rules({"linear1.weight": _parts(0, 4, reads=[2])}),
    PatchRecovery: Rules({"conv.weight": _parts(0, 2, reads=[0, 1])}),
}
