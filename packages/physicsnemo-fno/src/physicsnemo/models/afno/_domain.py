# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the rows of AFNO's fields over ranks.

The filter keeps most modes, so sums over ranks would be large. Instead ranks exchange rows for
columns: each transforms its rows along the columns, then has all rows of some columns' modes. The
entry-point group ``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from physicsnemo.models.afno._filter import AFNO2DLayer, SpectralFilter
from physicsnemo.models.afno.afno import AFNO, PatchEmbed
from physicsnemo.models.afno.modafno import ModAFNO, ModAFNO2DLayer
from physicsnemo.nn.fourier import (
    complex_to_modes,
    modes_to_complex,
    to_field,
    to_modes,
    widened,
)


def filter_rows(module: SpectralFilter, domain: Any) -> None:
    """Let a filter act on its rows of tokens."""

    def forward(x: Tensor, modulate: Callable[[Tensor], Tensor]) -> Tensor:
        batch, height, width, channels = x.shape
        counts = domain.counts(height)
        rows = sum(counts)
        kept, columns = module.modes((rows, width))
        shares = domain.chunks(len(columns))
        wide = widened(x)
        waves = to_modes(wide.flatten(0, 1), [columns], "ortho").unflatten(0, (batch, height))
        waves = domain.transpose(waves, split=3, sizes=shares, join=1, joined=counts)
        own = waves.shape[3]
        modes = complex_to_modes(waves.flatten(3), kept, "ortho")
        modes = module.filter_modes(modes.unflatten(3, (own, channels)), modulate)
        waves = modes_to_complex(modes.flatten(3), rows, kept, "ortho")
        waves = waves.unflatten(3, (own, channels))
        waves = domain.transpose(waves, split=1, sizes=counts, join=3, joined=shares)
        field = to_field(waves.flatten(0, 1), [width], [columns], "ortho")
        result: Tensor = field.unflatten(0, (batch, height)) + wide
        return result.to(x.dtype)

    module._filter = forward  # type: ignore[method-assign]


def patches(module: PatchEmbed, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of an embedding of patches for its rows of fields."""
    return module.embed


def positions(module: AFNO | ModAFNO, domain: Any) -> None:
    """Let a model take its rows of the embedded positions."""
    rows, columns = module.patch_embed.grid

    def own() -> Tensor:
        first, stop, _ = domain.chunk(rows)
        return module.pos_embed[:, first * columns : stop * columns]

    module.positions = own  # type: ignore[method-assign]


MODELS = {
    AFNO: lambda model: (2, model.patch_embed.patch_size[0]),
    ModAFNO: lambda model: (2, model.patch_embed.patch_size[0]),
}
RULES = {
    AFNO: positions,
    ModAFNO: positions,
    AFNO2DLayer: filter_rows,
    ModAFNO2DLayer: filter_rows,
    PatchEmbed: patches,
}
