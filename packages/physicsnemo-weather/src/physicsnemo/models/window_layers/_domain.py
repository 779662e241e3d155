# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the latitudes of window transformers.

Grids are divided where windows begin that are not shifted, so that a rank has whole ones; shifted
windows fetch the rows that the next rank has. Between grids of different windows, resolutions or
patches, rows go to the ranks that need them. All divisions follow from the sizes of the grids.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, cast

from torch import Tensor, nn

from physicsnemo.models.window_layers.blocks import WindowBlock
from physicsnemo.models.window_layers.earth import DecoderLayer, EarthAttention, EncoderLayer
from physicsnemo.models.window_layers.patches import (
    DownSample,
    PatchEmbed,
    PatchRecovery,
    UpSample,
)
from physicsnemo.models.window_layers.swin import SwinTransformer
from physicsnemo.models.window_layers.windows import Pads, Windows

Ranges = list[list[tuple[int, int]]]
"""For each rank, rows of a grid: from the first of each pair to that before the second."""

# The axis of latitudes, behind which is that of longitudes, and then maybe that of channels.
LATITUDE = -2
ROWS = -3


def held(blocks: nn.ModuleList, domain: Any) -> Ranges:
    """Return which rows of the grid of some blocks each rank holds."""
    block = cast(WindowBlock, blocks[0])
    return _rows(windows_of(blocks), block.pads, domain)


def windows_of(blocks: nn.ModuleList) -> Windows:
    """Return the windows of the first of some blocks."""
    return cast(Windows, cast(WindowBlock, blocks[0]).attn.windows)


def inputs(rows: int, domain: Any) -> Ranges:
    """Return which rows of the input, and of outputs like it, each rank holds."""
    ends = accumulate(domain.chunks(rows, domain.unit), initial=0)
    return [[span] for span in pairwise(ends)]


def scaled(ranges: Ranges, factor: int, before: int = 0) -> Ranges:
    """Return the rows of a finer grid, padded by some before the first, that are in others."""
    return [[(factor * a - before, factor * b - before) for a, b in spans] for spans in ranges]


def embed(module: PatchEmbed, domain: Any, image: Ranges, grid: Ranges) -> None:
    """Let a patch embedding fetch the rows of its patches, and pad no rows."""
    needed = scaled(grid, module.patch_size[LATITUDE], module.pads[LATITUDE][0])
    module.pads = without_rows(module.pads)
    around(module, domain, LATITUDE, before=(image, needed))


def recover(module: PatchRecovery, domain: Any, grid: Ranges, image: Ranges) -> None:
    """Let a patch recovery hand on the rows of its patches, and crop no rows."""
    made = scaled(grid, module.patch_size[LATITUDE], module.pads[LATITUDE][0])
    module.pads = without_rows(module.pads)
    around(module, domain, LATITUDE, after=(made, image))


def halve(module: DownSample, domain: Any, fine: Ranges, coarse: Ranges) -> None:
    """Let a downsampling fetch the rows that it joins."""
    needed = scaled(coarse, 2, module.pads[LATITUDE][0])
    module.pads = without_rows(module.pads)
    around(module, domain, ROWS, before=(fine, needed))


def double(module: UpSample, domain: Any, coarse: Ranges, fine: Ranges) -> None:
    """Let an upsampling hand on the rows that it makes."""
    made = scaled(coarse, 2, module.pads[LATITUDE][0])
    module.pads = without_rows(module.pads)
    around(module, domain, ROWS, after=(made, fine))


def around(
    module: nn.Module,
    domain: Any,
    axis: int,
    before: tuple[Ranges, Ranges] | None = None,
    after: tuple[Ranges, Ranges] | None = None,
) -> None:
    """Let a module redistribute rows before it is applied, or afterwards."""
    module.forward = redistributing(module.forward, domain, axis, before=before, after=after)


def redistributing(
    function: Callable[[Tensor], Tensor],
    domain: Any,
    axis: int,
    before: tuple[Ranges, Ranges] | None = None,
    after: tuple[Ranges, Ranges] | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return a function that redistributes rows before another, or afterwards."""

    def function_of_own(x: Tensor) -> Tensor:
        if before is not None:
            x = domain.redistribute(x, x.ndim + axis, *before)
        x = function(x)
        return x if after is None else domain.redistribute(x, x.ndim + axis, *after)

    return function_of_own


def without_rows(pads: Pads) -> Pads:
    """Return padding of all axes but the latitude."""
    return (*pads[:LATITUDE], (0, 0), *pads[LATITUDE + 1 :])


def block(module: WindowBlock, domain: Any) -> None:
    """Let a block attend in the windows of its rank, which may be shifted."""
    windows = cast(Windows, module.attn.windows)
    before, _ = module.pads[LATITUDE]
    shift = module.unroll[LATITUDE] if module.unroll else 0
    own = _rows(windows, module.pads, domain)
    seen = _windows(windows, before, domain, shift)
    _restrict(module.attn, domain)
    module.pads = without_rows(module.pads)
    module.roll, module.unroll = (
        (*steps[:LATITUDE], 0, *steps[LATITUDE + 1 :]) if steps else ()
        for steps in (module.roll, module.unroll)
    )
    vars(module)["_attend"] = redistributing(
        module._attend, domain, ROWS, before=(own, seen), after=(seen, own)
    )


def stage(module: SwinTransformer, domain: Any) -> None:
    """Let a stage work on the rows of its rank's windows."""
    padded = _windows(windows_of(module.layer.blocks), module.pads[LATITUDE][0], domain)
    own = stage_rows(module, domain)
    module.pads = without_rows(module.pads)
    around(module, domain, ROWS, before=(own, padded), after=(padded, own))


def stage_rows(module: SwinTransformer, domain: Any) -> Ranges:
    """Return which rows of a stage's grid each rank holds."""
    return _rows(windows_of(module.layer.blocks), module.pads, domain)


def encoder(module: EncoderLayer, domain: Any, image: Ranges) -> None:
    """Let an encoder redistribute rows of the image, and from resolution to resolution."""
    fine, coarse = _resolutions(module, domain)
    embed(module.patchembed2d, domain, image, fine)
    halve(module.downsample, domain, fine, coarse)


def decoder(module: DecoderLayer, domain: Any, image: Ranges) -> None:
    """Let a decoder redistribute rows from resolution to resolution, and to the image."""
    fine, coarse = _resolutions(module, domain)
    double(module.upsample, domain, coarse, fine)
    recover(module.patchrecovery2d, domain, fine, image)


def _resolutions(module: EncoderLayer | DecoderLayer, domain: Any) -> tuple[Ranges, Ranges]:
    return held(module.blocks, domain), held(module.blocks_middle, domain)


def _restrict(attention: nn.Module, domain: Any) -> None:
    """Let attention have the windows, biases and masks of its rank alone."""
    windows = cast(Windows, attention.windows)
    total = windows.counts[LATITUDE]
    counts = domain.chunks(total)
    first, own = sum(counts[: domain.rank]), counts[domain.rank]
    rows = own * windows.window[LATITUDE]
    grid = (*windows.grid[:LATITUDE], rows, windows.grid[-1])
    attention.windows = replace(windows, grid=grid)  # type: ignore[assignment]
    whole = attention.forward

    def of_rank(types: Tensor) -> Tensor:
        part: Tensor = types.unflatten(1, (-1, total)).narrow(2, first, own).flatten(1, 2)
        return part

    def forward(x: Tensor, mask: Tensor | None = None) -> Tensor:
        output: Tensor = whole(x, mask if mask is None else of_rank(mask))
        return output

    attention.forward = forward
    if isinstance(attention, EarthAttention):
        attention._table = lambda: of_rank(attention.earth_position_bias_table)  # type: ignore[method-assign]


def _windows(windows: Windows, before: int, domain: Any, shift: int = 0) -> Ranges:
    """Return the rows of each rank's windows, counted from the first that is not padding."""
    total, height = windows.grid[LATITUDE], windows.window[LATITUDE]
    count = windows.counts[LATITUDE]
    if count < domain.size:
        raise ValueError(
            f"expected at least one window for each of {domain.size} ranks, got {count} of "
            f"{height} rows on a grid of {total}; use fewer ranks, lower windows or a finer grid"
        )
    spans = pairwise(accumulate(domain.chunks(count), initial=0))
    shifted = [(height * a + shift % total, height * b + shift % total) for a, b in spans]
    return [
        [(a - turn - before, b - turn - before) for a, b, turn in _turned(*span, total)]
        for span in shifted
    ]


def _turned(first: int, stop: int, total: int) -> Sequence[tuple[int, int, int]]:
    """Cut rows where the grid ends; the third number is to be subtracted from both others."""
    pieces = ((first, min(stop, total), 0), (max(first, total), stop, total))
    return [piece for piece in pieces if piece[0] < piece[1]]


def _rows(windows: Windows, pads: Pads, domain: Any) -> Ranges:
    """Return the rows of each rank's windows without the padding."""
    rows = windows.grid[LATITUDE] - sum(pads[LATITUDE])
    ranges = _windows(windows, pads[LATITUDE][0], domain)
    return [[(max(a, 0), min(b, rows)) for a, b in spans] for spans in ranges]


RULES: dict[type[nn.Module], Callable[[Any, Any], Any]] = {
    SwinTransformer: stage,
    WindowBlock: block,
}
