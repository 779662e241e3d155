# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the latitudes of SFNO's fields over ranks.

Each rank transforms its latitudes along the longitudes; then ranks exchange latitudes for orders,
so that each has all latitudes of some orders, which no layer mixes. The entry-point group
``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.sfno._layers import (
    DirectEmbedding,
    FrequencyEmbedding,
    SpectralFilter,
    SphericalNorm,
)
from physicsnemo.models.sfno._sht import InverseRealSHT, RealSHT, by_order
from physicsnemo.models.sfno.sfno import SFNO
from physicsnemo.nn.precision import no_autocast


def transform(sht: RealSHT, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of a transform to this rank's orders."""
    first, stop, _ = domain.chunk(sht.mmax)
    orders, latitudes = domain.chunks(sht.mmax), domain.chunks(sht.grid.nlat)

    def forward(x: Tensor) -> Tensor:
        fourier, legendre = sht.fourier.like(x), sht.legendre.like(x)
        with no_autocast(x):
            waves = (x.to(fourier.dtype) @ fourier).unflatten(-1, (2, sht.mmax)).mT
            lat, order = waves.ndim - 3, waves.ndim - 2
            waves = domain.transpose(waves, split=order, sizes=orders, join=lat, joined=latitudes)
            return by_order(legendre[first:stop], waves)

    return forward


def inverse(isht: InverseRealSHT, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of a transform from this rank's orders to its latitudes."""
    first, stop, _ = domain.chunk(isht.mmax)
    orders, latitudes = domain.chunks(isht.mmax), domain.chunks(isht.grid.nlat)

    def forward(spectrum: Tensor) -> Tensor:
        fourier, legendre = isht.fourier.like(spectrum), isht.legendre.like(spectrum)
        with no_autocast(spectrum):
            waves = by_order(legendre[first:stop], spectrum.to(legendre.dtype))
            lat, order = waves.ndim - 3, waves.ndim - 2
            waves = domain.transpose(waves, split=lat, sizes=latitudes, join=order, joined=orders)
            field: Tensor = waves.mT.flatten(-2) @ fourier
            return field

    return forward


def spectral_filter(module: SpectralFilter, domain: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the forward of a filter whose matrices differ from order to order."""
    if module.weight.ndim == 4:
        return None
    first, stop, _ = domain.chunk(module.weight.shape[3])

    def forward(spectrum: Tensor) -> Tensor:
        return module.apply_weight(module.weight[:, :, :, first:stop], spectrum)

    return forward


def normalization(module: SphericalNorm, domain: Any) -> None:
    """Let means be those over all ranks' latitudes."""

    def mean(x: Tensor) -> Tensor:
        area = module.area.like(x)
        first, stop, _ = domain.chunk(len(area))
        zonal = x.mean(dim=-1) * (0.5 * area[first:stop])
        total: Tensor = domain.all_reduce(zonal.sum(dim=-1))
        return total[..., None, None]

    module._mean = mean  # type: ignore[method-assign]


def direct_embedding(module: DirectEmbedding, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of an embedding of this rank's latitudes."""
    first, stop, _ = domain.chunk(module.field.shape[1])
    return lambda x: x + module.field[:, first:stop].to(x.dtype)


def frequency_embedding(module: FrequencyEmbedding, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of an embedding by this rank's orders."""
    first, stop, _ = domain.chunk(module.coefficients.shape[2])

    def forward(x: Tensor) -> Tensor:
        field: Tensor = module.isht(module.coefficients[:, :, first:stop]).to(x.dtype)
        return x + field

    return forward


def operator(model: SFNO, domain: Any) -> None:
    """Let a model expect this rank's latitudes."""
    first, stop, _ = domain.chunk(model._layout["inp_shape[0]"])
    model._layout = model._layout | {"inp_shape[0]": stop - first}


MODELS: dict[type[torch.nn.Module], Callable[[Any], tuple[int, int]]] = {SFNO: lambda model: (2, 1)}
RULES: dict[type[torch.nn.Module], Callable[[Any, Any], Any]] = {
    DirectEmbedding: direct_embedding,
    FrequencyEmbedding: frequency_embedding,
    InverseRealSHT: inverse,
    RealSHT: transform,
    SFNO: operator,
    SpectralFilter: spectral_filter,
    SphericalNorm: normalization,
}
