# SPDX-License-Identifier: Apache-2.0
"""Normalization by moments of all ranks' values, in about as many passes as on one rank."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["normalize"]


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    axes: Sequence[int],
    share: float | Tensor,
    eps: float,
    correction: float | Tensor,
    group: dist.ProcessGroup,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return values less their mean, divided by their standard deviation, and these moments.

    Moments are taken in float32 or better. They have no gradients.

    Parameters
    ----------
    x
        This rank's values.
    weight, bias
        What the result is multiplied by, and what is added to it: of as many axes as the values,
        each of their length or of length 1.
    axes
        The axes to take mean and biased variance over; they are kept, of length 1.
    share
        Which part of all values this rank has.
    eps
        What is added to the variance.
    correction
        A factor on the variance.
    group
        The ranks.
    """
    result: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, tuple(axes), share, eps, correction, group
    )
    return result


class _Normalize(torch.autograd.Function):
    """One elementwise pass forward, and two backward, besides sums."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        axes: tuple[int, ...],
        share: float | Tensor,
        eps: float,
        correction: float | Tensor,
        group: dist.ProcessGroup,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            mean, variance = _combine(*_moments(x, axes), share, group)
            scale = (correction * variance + eps).rsqrt()
            factor = scale if weight is None else scale * weight
            shift = -mean * factor if bias is None else torch.addcmul(bias, mean, -factor)
            result = _multiply_add(x, factor, shift)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.axes, ctx.share, ctx.correction, ctx.group = axes, share, correction, group
        ctx.shape_of_bias = None if bias is None else bias.shape
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        # Sums over what a weight does not tell apart serve its gradient and that of the values.
        inner = [axis for axis in ctx.axes if weight is None or weight.shape[axis] == 1]
        sums = gradient.sum(inner, keepdim=True, dtype=scale.dtype)
        products = _products(gradient, x).sum(inner, keepdim=True, dtype=scale.dtype)
        products = scale * torch.addcmul(products, mean, sums, value=-1)
        by_weight = None if weight is None else products.sum_to_size(weight.shape)
        by_bias = None if ctx.shape_of_bias is None else sums.sum_to_size(ctx.shape_of_bias)
        weighted = torch.stack((sums, products))
        factor = scale
        if weight is not None:
            weighted, factor = weighted * weight, scale * weight
        count = x.numel() // mean.numel()
        means = weighted.sum([axis + 1 for axis in ctx.axes], keepdim=True) * (ctx.share / count)
        dist.all_reduce(means, group=ctx.group)
        through_mean, through_variance = means
        slope = scale.square() * through_variance * -ctx.correction
        shift = torch.addcmul(-scale * through_mean, mean, slope, value=-1)
        by_x = _multiply_add(gradient, factor, _multiply_add(x, slope, shift))
        return by_x, by_weight, by_bias, None, None, None, None, None


def _moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of this rank's values."""
    if x.dtype not in (torch.float16, torch.bfloat16):
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return mean, variance
    # Sums in float32, without a copy in it. What the difference of squares loses is less than what
    # values lost that were rounded to half precision.
    mean = x.mean(axes, keepdim=True, dtype=torch.float32)
    norm = torch.linalg.vector_norm(x, 2, axes, keepdim=True, dtype=torch.float32)
    squares = norm.square() * (mean.numel() / x.numel())
    return mean, torch.addcmul(squares, mean, mean, value=-1).clamp(min=0)


def _combine(
    mean: Tensor, variance: Tensor, share: float | Tensor, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of all ranks' values, given those of this rank's."""
    own = torch.stack((mean, variance, torch.zeros_like(mean) + share))
    sent = own.expand(dist.get_world_size(group), *own.shape).contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group)
    means, variances, shares = received.unbind(1)
    mean = (shares * means).sum(0)
    # The variance of all is that within ranks and that of their means; no large sums cancel.
    deviations = means - mean
    return mean, (shares * torch.addcmul(variances, deviations, deviations)).sum(0)


def _products(gradient: Tensor, x: Tensor) -> Tensor:
    """Return products to be summed; those of numbers in float16 may be too large for it."""
    return gradient * (x.float() if x.dtype == torch.float16 else x)


def _multiply_add(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Return ``x * factor + shift`` in the type of ``x``, which may be a narrower one."""
    return torch.addcmul(shift, x, factor, out=torch.empty_like(x))
