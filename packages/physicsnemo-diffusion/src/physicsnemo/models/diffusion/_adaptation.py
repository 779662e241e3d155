# SPDX-License-Identifier: Apache-2.0
"""What tensors of U-Nets with other shapes have in common, for :func:`physicsnemo.utils.adapt`.

The entry-point group ``physicsnemo.adaptation`` names this module. Channels of the fields are
carried over; so are those of hidden layers, unless a layer reads two things side by side, as the
decoder does, or has channels of several heads, as attention does.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.models.diffusion.dhariwal_unet import DhariwalUNet
from physicsnemo.models.diffusion.song_unet import SongUNet, SongUNetPosEmbd
from physicsnemo.utils.adaptation import Change, Rules, channels, left_fresh, overlap, resampled

_BLOCK = re.compile(r"((?:enc|dec)\.)(\d+)x\2_")


def _level(module: nn.Module, key: str) -> str:
    """Name a block by the number of its level, where files name it by the level's height."""
    network: Any = module
    found = _BLOCK.match(key)
    if found is None:
        return key
    names = [level.name for level in network.levels]
    depth = names.index(f"{found[2]}x{found[2]}")
    return f"{found[1]}{depth}_{key[found.end() :]}"


def _grid(change: Change) -> Tensor | None:
    """Interpolate learned positions, (..., channels, height, width); others are computed."""
    if change.key not in dict(change.after.named_parameters()):
        return None
    height, width = change.fresh.shape[-2:]
    found = resampled(change.old.flatten(0, -3), (height, width))
    return overlap(found.unflatten(0, change.old.shape[:-2]), change.fresh)


def _fields_and_grid(change: Change) -> Tensor | None:
    """Carry over the weights of fields, and of the grid and lead times, which follow them."""
    if change.old.shape[2:] != change.fresh.shape[2:]:
        return None
    parts = zip(_parts(change.old, change.before), _parts(change.fresh, change.after), strict=True)
    return torch.cat([overlap(old, fresh, reads=[1]) for old, fresh in parts], dim=1)


def _parts(weight: Tensor, model: Any) -> Sequence[Tensor]:
    others = [0 if it is None else it.shape[-3] for it in (model.pos_embd, model.lt_embd)]
    return torch.split(weight, [weight.shape[1] - sum(others), *others], dim=1)


_TENSORS = {
    "*.qkv.*": left_fresh,
    "*.affine.*": left_fresh,  # scales, then shifts
    "dec.*_block*.norm0.*": left_fresh,
    "dec.*_block*.conv0.weight": left_fresh,
    "dec.*_block*.skip.weight": left_fresh,
    "*": channels,
}
_UNET = Rules(_TENSORS, constants=["*.resample_filter"], role=_level)
_WITH_GRID = Rules(
    {"pos_embd": _grid, "lt_embd": _grid, "enc.*_conv.weight": _fields_and_grid, **_TENSORS},
    constants=_UNET.constants,
    role=_level,
)
RULES = {SongUNet: _UNET, SongUNetPosEmbd: _WITH_GRID, DhariwalUNet: _UNET}
