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

from physicsnemo.models.diffusion.dhariwal_unet import DhariwalUNet
from physicsnemo.models.diffusion.layers import Attention, Conv2d, GroupNorm
from physicsnemo.models.diffusion.layers.linear import typed_like
from physicsnemo.models.diffusion.preconditioning import (
    EDMPrecond,
    EDMPrecondSR,
    EDMPrecondSuperResolution,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
    tEDMPrecondSuperRes,
)
from physicsnemo.models.diffusion.song_unet import SongUNet, SongUNetPosEmbd, SongUNetPosLtEmbd
from physicsnemo.models.diffusion.unet import StormCastUNet, UNet
from physicsnemo.nn.transformer import dot_product_attention


def convolution(layer: Conv2d, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of a convolution that may double or halve the resolution."""
    half = layer.kernel // 2

    if (layer.up or layer.down) and not layer._averages:
        raise NotImplementedError(
            f"expected a resample_filter of two equal taps, got {layer._taps}; domain parallelism "
            f"has no rule for others"
        )

    def forward(x: Tensor) -> Tensor:
        x = layer._double(x) if layer.up else x
        x = layer._halve(x) if layer.down and not layer.fused_resample else x
        if layer.weight is not None:
            weight, bias = typed_like(x, layer.amp_mode, layer.weight, layer.bias)
            x = domain.convolve(x, weight, bias, stride=(1, 1), padding=(half, half))
        return layer._halve(x) if layer.down and layer.fused_resample else x

    return forward


def normalization(layer: GroupNorm, domain: Any) -> None:
    """Let a group normalization use the moments of all ranks' rows."""

    def normalize(x: Tensor) -> Tensor:
        normed: Tensor = domain.normalize(
            x.unflatten(1, (layer.num_groups, -1)),
            (2, 3, 4),
            3,
            layer.eps,
            unbiased=layer.unbiased_in_eval and not layer.training,
        ).flatten(1, 2)
        weight, bias = (it.to(x.dtype)[:, None, None] for it in (layer.weight, layer.bias))
        return torch.addcmul(bias, normed, weight)

    layer._normalize = normalize  # type: ignore[method-assign]


def attention(layer: Attention, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of an attention of this rank's pixels to those of all ranks."""
    heads = layer.num_heads

    def forward(x: Tensor) -> Tensor:
        width, rows = x.shape[1:3]
        mixed = layer.qkv(layer.norm(x)).unflatten(1, (width, 3))
        counts = domain.counts(rows)
        query, (key, value) = (
            mixed[:, :, 0],
            (domain.all_gather(mixed[:, :, part], 2, counts) for part in (1, 2)),
        )
        if layer.heads_split_pixels and heads > 1:
            raise NotImplementedError(
                "expected heads that divide channels: under numerics='reference-1.2' they divide "
                "pixels, for which domain parallelism has no rule"
            )
        query, key, value = (
            part.unflatten(1, (heads, -1)).flatten(3).transpose(-1, -2).contiguous()
            for part in (query, key, value)
        )
        mixed = dot_product_attention(query, key, value)
        projected: Tensor = layer.proj(mixed.transpose(-1, -2).reshape(x.shape).contiguous())
        return projected + x

    return forward


def network(module: SongUNet, domain: Any) -> None:
    """Refuse what a network has for each pixel and no rule divides."""
    if module.additive_pos_embed:
        raise NotImplementedError(
            "expected additive_pos_embed=False; domain parallelism has no rule for it"
        )


def positions(module: SongUNetPosEmbd, domain: Any) -> Callable[..., Tensor]:
    """Return the forward of a network that knows which rows of the grid it sees."""
    network(module, domain)
    whole = module.forward
    width = module.img_shape[1]

    def forward(
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        global_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if global_index is None:
            first, stop, _ = domain.rows(x.shape[2])
            rows = torch.arange(first, stop, device=x.device)
            columns = torch.arange(width, device=x.device)
            global_index = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
        return whole(x, noise_labels, class_labels, global_index, **kwargs)

    return forward


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
}
