# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the rows of images over ranks.

Convolutions look at rows of the neighbouring ranks, normalizations sum moments, and attention, at
low resolution, fetches the keys and values of all ranks. The entry-point group
``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.models.diffusion.dhariwal_unet import DhariwalUNet
from physicsnemo.models.diffusion.layers import Attention, Conv2d, GroupNorm
from physicsnemo.models.diffusion.layers.linear import typed_like
from physicsnemo.models.diffusion.preconditioning import (
    EDMPrecond,
    EDMPrecondSR,
    EDMPrecondSuperResolution,
    VEPrecond,
    VEPrecond_dfsr,
    VEPrecond_dfsr_cond,
    VPPrecond,
    iDDPMPrecond,
    tEDMPrecondSuperRes,
)
from physicsnemo.models.diffusion.song_unet import SongUNet, SongUNetPosEmbd, SongUNetPosLtEmbd
from physicsnemo.models.diffusion.unet import StormCastUNet, UNet
from physicsnemo.nn.transformer import dot_product_attention


def convolution(layer: Conv2d, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of a convolution that may double or halve the resolution."""
    half, fused = layer.kernel // 2, layer.fused_resample and not layer._averages

    def forward(x: Tensor) -> Tensor:
        if fused and layer.up:
            return _double_fused(layer, x, domain)
        if fused and layer.down:
            return _halve_fused(layer, x, domain)
        x = _double(layer, x, domain) if layer.up else x
        x = _halve(layer, x, domain) if layer.down and not layer.fused_resample else x
        if layer.weight is not None:
            weight, bias = typed_like(x, layer.amp_mode, layer.weight, layer.bias)
            x = domain.convolve(x, weight, bias, stride=(1, 1), padding=(half, half))
        return layer._halve(x) if layer.down and layer.fused_resample else x

    return forward


def _double(layer: Conv2d, x: Tensor, domain: Any) -> Tensor:
    if layer._averages:
        return layer._double(x)
    kernel, padding = 4 * layer._filter_of_each_channel(x), layer._resample_padding
    taps = kernel.shape[2]
    rows, before, after = x.shape[2], (taps - 1 - padding) // 2, -(-padding // 2)
    x = domain.pad(x, 2, before, after)
    y = functional.conv_transpose2d(x, kernel, stride=2, padding=(0, padding), groups=x.shape[1])
    return y.narrow(2, padding + 2 * before, 2 * rows)


def _halve(layer: Conv2d, x: Tensor, domain: Any) -> Tensor:
    if layer._averages:
        return layer._halve(x)
    kernel, padding = layer._filter_of_each_channel(x), layer._resample_padding
    result: Tensor = domain.convolve(
        x, kernel, None, stride=(2, 2), padding=(padding, padding), groups=x.shape[1]
    )
    return result


def _double_fused(layer: Conv2d, x: Tensor, domain: Any) -> Tensor:
    """Resample, and convolve without zeros in between."""
    assert layer.weight is not None
    weight, bias = typed_like(x, layer.amp_mode, layer.weight, layer.bias)
    kernel = 4 * layer._filter_of_each_channel(x)
    taps, half = kernel.shape[2], layer.kernel // 2
    skipped = (taps - 1) // 2
    # Rows before and behind from which the filter makes those that the kernel sees.
    width = max((half - skipped + taps) // 2, (half + skipped + 1) // 2)
    rows = x.shape[2]
    x = domain.pad(x, 2, width, width)
    y = functional.conv_transpose2d(
        x, kernel, stride=2, padding=(0, layer._resample_padding), groups=x.shape[1]
    )
    y = y.narrow(2, 2 * width + skipped - half, 2 * (rows + half))
    return functional.conv2d(y, weight, bias, padding=(0, layer._padding))


def _halve_fused(layer: Conv2d, x: Tensor, domain: Any) -> Tensor:
    """Convolve, and resample without zeros in between."""
    assert layer.weight is not None
    weight, bias = typed_like(x, layer.amp_mode, layer.weight, layer.bias)
    kernel = layer._filter_of_each_channel(x.new_empty(1, layer.out_channels, 0, 0))
    taps, half = kernel.shape[2], layer.kernel // 2
    skipped = (taps - 1) // 2
    x = domain.pad(x, 2, half + skipped, half + taps - 2 - skipped)
    y = functional.conv2d(x, weight, bias, padding=(0, layer._padding))
    return functional.conv2d(y, kernel, stride=2, groups=y.shape[1])


def normalization(layer: GroupNorm, domain: Any) -> None:
    """Let a group normalization use the moments of all ranks' rows."""
    layer._domain = domain


def attention(layer: Attention, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of an attention of this rank's pixels to those of all ranks."""
    heads = layer.num_heads

    def forward(x: Tensor) -> Tensor:
        batch, width, rows, columns = x.shape
        counts = domain.counts(rows)
        mixed = layer.qkv(layer.norm(x))
        if layer.heads_split_pixels:
            # A head has its share of all pixels, in as many places as there are pixels.
            mixed = domain.all_gather(mixed, 2, counts).permute(0, 2, 3, 1)
            mixed = mixed.reshape(batch, heads, sum(counts) * columns, width // heads, 3)
            query, key, value = mixed.movedim(-1, 0).contiguous().unbind(0)
            first, stop, _ = domain.rows(rows)
            query = query[:, :, first * columns : stop * columns]
        else:
            mixed = mixed.unflatten(1, (width, 3))
            query, others = mixed.split((1, 2), dim=2)
            key, value = domain.all_gather(others, 3, counts).unbind(2)
            query = query[:, :, 0]
            query, key, value = (
                part.unflatten(1, (heads, -1)).flatten(3).transpose(-1, -2).contiguous()
                for part in (query, key, value)
            )
        mixed = dot_product_attention(query, key, value)
        projected: Tensor = layer.proj(mixed.transpose(-1, -2).reshape(x.shape).contiguous())
        return projected + x

    return forward


def network(module: SongUNet, domain: Any) -> None:
    """Let a network add the embedding of its rank's pixels."""
    if module._taps % 2:
        raise NotImplementedError(
            f"expected a resample_filter of an even number of taps, got {module._taps}: others are "
            f"for images of an odd height, which no unit divides"
        )
    if not module.additive_pos_embed:
        return
    first, stop, _ = domain.chunk(module.img_shape[0], domain.unit)
    size = stop - first, module.img_shape[1]
    module._size = lambda: size  # type: ignore[method-assign]
    module._positions = lambda: module.spatial_emb[:, :, first:stop]  # type: ignore[method-assign]


def positions(module: SongUNetPosEmbd, domain: Any) -> None:
    """Let a network know which rows of the grid it sees."""
    network(module, domain)
    whole, width = module._with_positions, module.img_shape[1]

    def with_positions(
        x: Tensor, global_index: Tensor | None, embedding_selector: Any, lead_time_label: Any
    ) -> Tensor:
        if global_index is None and embedding_selector is None:
            first, stop, _ = domain.rows(x.shape[2])
            rows = torch.arange(first, stop, device=x.device)
            columns = torch.arange(width, device=x.device)
            global_index = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        return whole(x, global_index, embedding_selector, lead_time_label)

    module._with_positions = with_positions  # type: ignore[method-assign]


def residual(module: VEPrecond_dfsr_cond, domain: Any) -> None:
    """Let a wrapper take the gradient of the residual of whole fields, which are few channels."""
    whole = module.voriticity_residual

    def gradient(w: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        first, stop, _ = domain.rows(w.shape[2])
        fields = domain.all_gather(w.detach(), 2, domain.counts(w.shape[2]))
        return whole(fields, *args, **kwargs)[:, :, first:stop]

    module.voriticity_residual = gradient  # type: ignore[method-assign]


def _division(model: Any) -> tuple[int, int]:
    network = getattr(model, "model", model)
    return 2, 2 ** (len(network.levels) - 1)


MODELS = dict.fromkeys(
    (
        DhariwalUNet,
        EDMPrecond,
        EDMPrecondSR,
        EDMPrecondSuperResolution,
        SongUNet,
        SongUNetPosEmbd,
        SongUNetPosLtEmbd,
        StormCastUNet,
        UNet,
        VEPrecond,
        VEPrecond_dfsr,
        VEPrecond_dfsr_cond,
        VPPrecond,
        iDDPMPrecond,
        tEDMPrecondSuperRes,
    ),
    _division,
)
RULES = {
    Attention: attention,
    Conv2d: convolution,
    GroupNorm: normalization,
    SongUNet: network,
    SongUNetPosEmbd: positions,
    SongUNetPosLtEmbd: positions,
    VEPrecond_dfsr_cond: residual,
}
