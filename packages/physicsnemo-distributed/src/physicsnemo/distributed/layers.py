# SPDX-License-Identifier: Apache-2.0
"""Rules of domain parallelism for PyTorch's own layers."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.distributed.domain import Domain
from physicsnemo.distributed.halo import AXIS


def convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, domain: Domain) -> Any:
    """Return the forward of a convolution, which looks at rows of the neighbouring ranks."""
    reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
    before, behind = _padding(layer, reach)
    if layer.stride[0] == 1 and not before + behind:
        return None  # pointwise, or after a layer that pads, which brings the other ranks' rows
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    others = _others(layer)

    def forward(x: Tensor) -> Tensor:
        padding = [before, *others]
        if mode != "constant" and any(others):
            widths = [width for p in reversed(others) for width in (p, p)]
            x, padding = functional.pad(x, [*widths, 0, 0], mode=mode), [before, *[0] * len(others)]
        return domain.convolve(
            x,
            layer.weight,
            layer.bias,
            stride=layer.stride,
            padding=padding,
            dilation=layer.dilation,
            groups=layer.groups,
            mode=mode,
        )

    return forward


def transposed_convolution(
    layer: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d, domain: Domain
) -> Any:
    """Return the forward of a transposed convolution; each rank computes its rows of the output."""
    apart = layer.kernel_size[0] == layer.stride[0] and layer.dilation[0] == 1
    if apart and not any((layer.padding[0], layer.output_padding[0])):
        return None  # each row of the output comes of one row

    def forward(x: Tensor) -> Tensor:
        return domain.convolve_transposed(
            x,
            layer.weight,
            layer.bias,
            stride=layer.stride,
            padding=cast(Sequence[int], layer.padding),
            output_padding=layer.output_padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )

    return forward


def group_normalization(layer: nn.GroupNorm, domain: Domain) -> Callable[[Tensor], Tensor]:
    """Return the forward of a group normalization by the moments of all ranks' rows."""

    def forward(x: Tensor) -> Tensor:
        return domain.normalize_groups(x, layer.num_groups, layer.eps, layer.weight, layer.bias)

    return forward


def instance_normalization(layer: Any, domain: Domain) -> Callable[[Tensor], Tensor]:
    """Return the forward of an instance normalization without running statistics."""
    if layer.track_running_stats:
        raise NotImplementedError(f"expected no running statistics, got {layer}")

    def forward(x: Tensor) -> Tensor:
        weight, bias = _affine(layer, x)
        axes = range(2, x.ndim)
        return domain.normalize(x, axes, AXIS, layer.eps, weight=weight, bias=bias)

    return forward


def batch_normalization(layer: Any, domain: Domain) -> Callable[[Tensor], Tensor]:
    """Return the forward of a batch normalization by the moments of all ranks' rows."""
    whole = type(layer).forward

    def forward(x: Tensor) -> Tensor:
        if not (layer.training or layer.running_mean is None):
            result: Tensor = whole(layer, x)
            return result
        axes = (0, *range(2, x.ndim))
        weight, bias = _affine(layer, x)
        normed, mean, variance = domain.normalize_with_moments(
            x, axes, AXIS, layer.eps, weight=weight, bias=bias
        )
        if layer.training and layer.track_running_stats:
            _track(layer, x, mean, variance, domain)
        return normed

    return forward


def padding(layer: Any, domain: Domain) -> Callable[[Tensor], Tensor]:
    """Return the forward of a layer that pads; between ranks, by their rows."""
    mode = _MODES[type(layer).__name__[:-5]]
    *others, before, after = layer.padding

    def forward(x: Tensor) -> Tensor:
        x = domain.pad(x, AXIS, before, after, mode)
        if not any(others):
            return x
        return functional.pad(x, [*others, 0, 0], mode=mode)

    return forward


def pooling(layer: Any, domain: Domain) -> None:
    """Raise an error unless windows of a pooling lie side by side, and so on one rank each."""
    sizes = [_first(getattr(layer, name)) for name in ("kernel_size", "stride", "padding")]
    if sizes[0] != sizes[1] or sizes[2]:
        raise NotImplementedError(f"expected windows side by side and no padding, got {layer}")


def _padding(layer: Any, reach: int) -> tuple[int, int]:
    """Return how many rows a convolution adds before and behind its input."""
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        return reach // 2, reach - reach // 2
    return layer.padding[0], layer.padding[0]


def _others(layer: Any) -> list[int]:
    """Return how much a convolution adds on either side of its other axes."""
    if isinstance(layer.padding, tuple):
        return list(layer.padding[1:])
    sizes = zip(layer.kernel_size[1:], layer.dilation[1:], strict=True)
    reaches = [dilation * (kernel - 1) for kernel, dilation in sizes]
    if layer.padding == "same" and any(reach % 2 for reach in reaches):
        raise NotImplementedError(f"expected odd kernels, got {layer}")
    return [reach // 2 if layer.padding == "same" else 0 for reach in reaches]


def _affine(layer: Any, x: Tensor) -> list[Tensor | None]:
    """Return weight and bias of each channel in a shape that goes with the fields."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    return [None if it is None else it.view(shape) for it in (layer.weight, layer.bias)]


def _track(layer: Any, x: Tensor, mean: Tensor, variance: Tensor, domain: Domain) -> None:
    """Update running statistics as PyTorch does, by the unbiased variance."""
    count = x.numel() // x.shape[1] // x.shape[AXIS] * domain.total(x, AXIS)
    with torch.no_grad():
        layer.num_batches_tracked += 1
        share = layer.momentum or 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_(mean.flatten().to(layer.running_mean.dtype), share)
        unbiased = variance.flatten() * count / (count - 1 + (count < 2))  # of a tensor, too
        layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), share)


def _first(size: int | tuple[int, ...]) -> int:
    return size[0] if isinstance(size, tuple) else size


_MODES = {
    "Reflection": "reflect",
    "Replication": "replicate",
    "Zero": "constant",
    "Circular": "circular",
}

RULES: dict[type[nn.Module], Any] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), transposed_convolution
    ),
    **{
        getattr(nn, f"{kind}Pad{dimension}d"): padding for kind in _MODES for dimension in (1, 2, 3)
    },
    nn.GroupNorm: group_normalization,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_normalization),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), instance_normalization
    ),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), pooling),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), pooling),
}
