# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the latitudes of SwinRNN over ranks.

Latitudes are the fourth axis of the input, behind that of past states, and the third of the output.
The entry-point group ``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.swinvrnn.swinvrnn import LEVELS, ConvBlock, SwinRNN
from physicsnemo.models.window_layers import SwinTransformer
from physicsnemo.models.window_layers import _domain as windows
from physicsnemo.models.window_layers._domain import Ranges


def network(module: SwinRNN, domain: Any) -> None:
    """Let a model redistribute rows of the image, and from resolution to resolution."""
    times, height, width = module.img_size
    image = windows.inputs(height, domain)
    grids = [windows.stage_rows(getattr(module, f"swin_block{level}"), domain) for level in LEVELS]
    patch = module.cube_embedding.patch_size[windows.LATITUDE]
    padded = windows.scaled(grids[0], patch, module.cube_embedding.pads[windows.LATITUDE][0])
    windows.embed(module.cube_embedding, domain, image, grids[0])
    vars(module)["_means"] = windows.redistributing(
        module._means, domain, windows.LATITUDE, before=(image, padded)
    )
    vars(module)["_recover"] = windows.redistributing(
        module._recover, domain, windows.LATITUDE, after=(padded, image)
    )
    for level, (fine, coarse) in enumerate(pairwise(grids), start=1):
        for name in (f"down{level}", f"down{level}x"):
            down = getattr(module, name)
            down.forward = _coarser(down, domain, fine, coarse)
        up = getattr(module, f"up{level}x")
        up.forward = _finer(up, domain, coarse, fine)
    vars(module.pred)["forward"] = _coarser(module.pred, domain, grids[0], grids[0])
    module.img_size = (times, domain.chunks(height, domain.unit)[domain.rank], width)


def _coarser(
    module: ConvBlock, domain: Any, given: Ranges, made: Ranges
) -> Callable[[Tensor], Tensor]:
    """Return the forward of a block that keeps the resolution, or halves it."""

    def forward(x: Tensor) -> Tensor:
        return _with_residuals(module, _convolve(module.conv, x, domain, given, made), domain, made)

    return forward


def _finer(
    module: ConvBlock, domain: Any, given: Ranges, wanted: Ranges
) -> Callable[[Tensor], Tensor]:
    """Return the forward of a block that doubles the resolution."""
    made = windows.scaled(given, 2)

    def forward(x: Tensor) -> Tensor:
        x = _with_residuals(module, module.conv(x), domain, made)
        fields: Tensor = domain.redistribute(x, 2, made, wanted)
        return fields

    return forward


def _with_residuals(module: ConvBlock, x: Tensor, domain: Any, rows: Ranges) -> Tensor:
    y = x
    for layer in module.b:
        if isinstance(layer, nn.Conv2d):
            y = _convolve(layer, y, domain, rows, rows)
        elif isinstance(layer, nn.GroupNorm):
            y = _normalize(layer, y, domain, rows)
        else:
            y = layer(y)
    return x + y


def _convolve(layer: Any, x: Tensor, domain: Any, given: Ranges, made: Ranges) -> Tensor:
    """Convolve by a kernel of three rows, with a row of zeros around the grid."""
    (stride, _), (_, width) = layer.stride, layer.padding
    seen = [[(stride * a - 1, stride * (b - 1) + 2) for a, b in spans] for spans in made]
    x = domain.redistribute(x, 2, given, seen)
    return functional.conv2d(x, layer.weight, layer.bias, layer.stride, (0, width))


def _normalize(layer: nn.GroupNorm, x: Tensor, domain: Any, rows: Ranges) -> Tensor:
    total = rows[-1][-1][1]
    fields: Tensor = domain.normalize_groups(
        x, layer.num_groups, layer.eps, layer.weight, layer.bias, rows=total
    )
    return fields


def _division(model: SwinRNN) -> tuple[int, int]:
    stage = cast(SwinTransformer, model.swin_block1)
    height, _ = windows.windows_of(stage.layer.blocks).window
    return 3, height * model.cube_embedding.patch_size[1]


MODELS = {SwinRNN: _division}
RULES = {**windows.RULES, SwinRNN: network}
