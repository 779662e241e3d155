# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the rows of FNO's fields over ranks.

A rank transforms its own rows. Only the kept modes, which are few, are summed over the ranks; each
rank then mixes the channels of its share of them. The entry-point group ``physicsnemo.domain``
names this module.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.models.fno._encoder import (
    FNO1DEncoder,
    FNO2DEncoder,
    FNO3DEncoder,
    FNO4DEncoder,
    FNOEncoder,
)
from physicsnemo.models.fno._spectral import SpectralConv, check_modes, frequencies_of
from physicsnemo.models.fno.fno import FNO
from physicsnemo.nn.convolution import pointwise_linear
from physicsnemo.nn.fourier import to_field, to_modes, widened


def encoder(module: FNOEncoder, domain: Any) -> Any:
    """Return the forward of an encoder for its rows of the fields."""
    layers = list(zip(module.conv_layers, module.spconv_layers, strict=True))

    def forward(x: Tensor) -> Tensor:
        own = domain.rows(x.shape[2])
        grid = [own.total, *x.shape[3:]]
        padded = [n + p for n, p in zip(grid, module.padding, strict=True)]
        check_modes(module.modes, padded)
        if module.coord_features:
            precision = torch.promote_types(x.dtype, torch.float32)
            whole = module.meshgrid([x.shape[0], 0, *grid], x.device, precision)
            coordinates = whole[:, :, own.first : own.stop]
            x = torch.cat((x, coordinates.to(x.dtype)), dim=1)
        points = _pad(module, module._lift(x.movedim(1, -1)), domain)
        rows = (own.first, own.first + points.shape[1], padded[0])
        for index, (conv, spectral) in enumerate(layers, start=1):
            mixed = _convolve(cast(SpectralConv, spectral), points, padded, rows, domain)
            points = pointwise_linear(conv, points) + mixed
            if index < len(layers):
                points = module._activate(points)
        return points[tuple(slice(n) for n in (None, *x.shape[2:]))].movedim(-1, 1)

    return forward


def _convolve(
    layer: SpectralConv,
    x: Tensor,
    grid: Sequence[int],
    rows: tuple[int, int, int],
    domain: Any,
) -> Tensor:
    frequencies = frequencies_of(layer.modes, grid)
    partial = to_modes(widened(x), frequencies, rows=rows)
    shares = domain.chunks(partial.shape[2])
    own = domain.chunk(partial.shape[2])
    mixed = layer.mix(domain.reduce_scatter(partial, 2, shares), frequencies, own[:2])
    return to_field(domain.all_gather(mixed, 2, shares), grid, frequencies, rows=rows).to(x.dtype)


def _pad(module: FNOEncoder, points: Tensor, domain: Any) -> Tensor:
    """Pad as :class:`FNOEncoder` does; what follows the last row is the last rank's."""
    last = domain.rank == domain.size - 1
    widths = list(module.padding)
    if module.padding_type == "circular" and widths[0]:
        _, following = domain.halo(points, 1, 0, widths[0], periodic=True)
        # All ranks join what they received, if only some of it, so that all take part in the
        # backward pass of the exchange.
        points = torch.cat((points, following[:, : widths[0] if last else 0]), dim=1)
        widths[0] = 0
    elif not last:
        widths[0] = 0
    ends = [width for points in reversed(widths) for width in (0, points)]
    if not any(ends):
        return points
    if module.padding_type == "constant":
        return functional.pad(points, [0, 0, *ends])
    return functional.pad(points.movedim(-1, 1), ends, mode=module.padding_type).movedim(1, -1)


MODELS = {FNO: lambda model: (2, 1)}
RULES = dict.fromkeys((FNO1DEncoder, FNO2DEncoder, FNO3DEncoder, FNO4DEncoder), encoder)
