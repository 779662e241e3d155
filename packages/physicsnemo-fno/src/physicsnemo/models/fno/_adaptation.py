# SPDX-License-Identifier: Apache-2.0
"""What tensors of FNO with other shapes have in common, for :func:`physicsnemo.utils.adapt`.

The entry-point group ``physicsnemo.adaptation`` names this module.
"""

from typing import cast

import torch
from torch import Tensor

from physicsnemo.models.fno._encoder import FNOEncoder
from physicsnemo.models.fno._spectral import CORNERS, SpectralConv
from physicsnemo.utils.adaptation import Change, Rules, overlap

_LIFTING = "lift_network.0.conv.weight"


def _fields_and_coordinates(change: Change) -> Tensor | None:
    """Carry over the weights of fields and of coordinates, which follow them."""
    if change.old.ndim != change.fresh.ndim:
        return None
    (old_fields, old_rest), (fields, rest) = (
        torch.tensor_split(weight, [cast(FNOEncoder, encoder).in_channels], dim=1)
        for weight, encoder in ((change.old, change.before), (change.fresh, change.after))
    )
    parts = (overlap(old_fields, fields, reads=[1]), overlap(old_rest, rest, reads=[1]))
    return torch.cat(parts, dim=1)


def _modes(change: Change) -> Tensor | None:
    """Carry over the low frequencies; modes that were not there start at zero."""
    modes = range(2, change.fresh.ndim - 1)
    if change.old.ndim != change.fresh.ndim:
        return None
    # Frequencies below zero end at -1, those from zero on begin there.
    signs = CORNERS[len(modes)][int(change.key.removeprefix("weights")) - 1]
    negative = [axis for axis, sign in zip(modes, signs, strict=False) if sign == "-"]
    return overlap(change.old, change.fresh, reads=[0, *modes], from_end=negative)


RULES = {
    FNOEncoder: Rules({_LIFTING: _fields_and_coordinates}),
    SpectralConv: Rules({"weights?": _modes}),
}
