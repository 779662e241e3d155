# SPDX-License-Identifier: Apache-2.0
"""Group normalization of channels-last images, modulated and activated in one pass, for GPUs.

PyTorch's own kernel lays such images out anew, and adding, modulating and activating are passes
of their own. Here one kernel reads the images for their moments, and one normalizes. Going back,
one sums up by channel, and one writes the gradient; only the images are kept for it. What lies in
between concerns numbers of channels, not of pixels.

Ranks that have rows of the images each (``domain``, of :mod:`physicsnemo.distributed`) tell each
other moments between the first two kernels, and sums between the last two.
"""

import logging
from copy import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.nn.precision import no_autocast
from physicsnemo.nn.tracing import is_transformed

try:
    import triton
    from triton import language as tl
except ImportError:  # a build of PyTorch that compiles for no GPU
    triton = None

logger = logging.getLogger(__name__)

TYPES = (torch.float32, torch.bfloat16, torch.float16)

_MOST_CHANNELS = 128  # of a tile
_TILE = 4096  # numbers that a program holds at once
_WARPS = 8
_PROGRAMS = 1024  # that sum up: enough to fill a GPU, and few to combine
_PARTIAL = 1024  # sums that a program combines at once


@lru_cache
def is_usable(device: torch.device) -> bool:
    """Return whether kernels run on a GPU, which takes Triton and a C compiler."""
    if triton is None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    x = torch.zeros(1, 4, 2, 2, device=device).to(memory_format=torch.channels_last)
    one = torch.ones(4, device=device)
    try:
        with torch.no_grad():
            group_norm(x, one, one, 1, 1.0)
    except Exception as error:  # whatever the compiler meets
        logger.warning("normalizations run unfused: %s: %s", type(error).__name__, error)
        return False
    return True


def group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    *,
    unbiased: bool = False,
    silu: bool = False,
    offset: Tensor | None = None,
    modulation: tuple[Tensor, Tensor] | None = None,
    domain: Any = None,
) -> Tensor:
    """Return normalized images, computed in single precision.

    Parameters
    ----------
    x
        Images of shape (batch, channels, height, width) in the memory format channels-last, in
        float32, bfloat16 or float16.
    weight, bias
        Of each channel, of shape (channels,).
    groups
        Number of groups, which divides the channels.
    eps
        Added to the variance.
    unbiased
        Whether to divide by the unbiased estimate of the variance.
    silu
        Whether SiLU follows.
    offset
        Added before, of shape (batch or 1, channels, 1, 1).
    modulation
        What the normalized images are scaled with, relative to 1, and shifted by, before SiLU. Of
        the shape of ``offset``.
    domain
        The ranks that the rows of the images are divided over, to as many on each.
    """
    rows = x.shape[:2]
    signals = [
        None if it is None else it.flatten(1).expand(rows)
        for it in (offset, *(modulation or (None, None)))
    ]
    options = groups, eps, float(unbiased), silu, domain
    weights = weight.contiguous(), bias.contiguous()
    normed: Tensor = _GroupNorm.apply(x, *weights, *signals, options)  # type: ignore[no-untyped-call]
    return normed


class _GroupNorm(torch.autograd.Function):
    """The kernels; and the formula, where gradients are to be differentiated or transformed."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, options = arguments
        x, *_ = tensors
        *numbers, silu, domain = options
        with torch.cuda.device_of(x):
            affine, means = _affine(*tensors, *numbers, domain=domain)
            y = torch.empty_like(x)
            plan = _Plan(x)
            plan.launch(normalize_kernel, plan.tiles, x, affine, y, silu=silu)
        ctx.save_for_backward(*tensors, affine, means)
        ctx.options = options
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        *tensors, affine, means = ctx.saved_tensors
        needed = ctx.needs_input_grad[:-1]
        if torch.is_grad_enabled() or is_transformed() or _is_batched(dy):
            return *_gradients(tensors, needed, dy, ctx.options), None
        x, weight, bias, _, scale, _ = tensors
        groups, _, correction, silu, domain = ctx.options
        dy = dy.contiguous(memory_format=torch.channels_last)
        with torch.cuda.device_of(x):
            plan = _Plan(x)
            parts = _sums_of_parts(plan, x, dy, affine, silu)
            if domain is None:
                sums = _combined(plan, parts, affine, groups, correction)
            else:
                sums = _combined_over_ranks(plan, parts, affine, means, groups, correction, domain)
            dx = torch.empty_like(x) if needed[0] else None
            if dx is not None:
                plan.launch(gradient_kernel, plan.tiles, x, dy, affine, sums, dx, silu=silu)
            direct, normed, doffset = sums[:, 0], sums[:, 1], sums[:, 4]
            dscale = None if scale is None else normed * weight + direct * bias
            parts = sums[:, :2]
            parts = parts if scale is None else parts + parts * scale[:, None]
            dbias, dweight = parts.sum(0)
        found = dx, dweight, dbias, doffset, dscale, direct
        return *(
            grad.to(tensor.dtype) if wanted and grad is not None else None
            for grad, tensor, wanted in zip(found, tensors, needed, strict=True)
        ), None


def _is_batched(x: Tensor) -> bool:
    # By `torch.autograd.grad(..., is_grads_batched=True)`, whose vmap is not that of torch.func.
    return bool(torch._C._functorch.is_legacy_batchedtensor(x))


def _gradients(
    tensors: list[Tensor | None], needed: tuple[bool, ...], dy: Tensor, options: Any
) -> list[Tensor | None]:
    """Return gradients by PyTorch's derivatives of the formula, which have derivatives."""
    with torch.enable_grad():
        # Views, as one of the tensors may have been computed from another.
        views = [None if it is None else it.view_as(it) for it in tensors]
        y = _formula(*views, *options)  # type: ignore[arg-type]
        wanted = [it for it, need in zip(views, needed, strict=True) if need and it is not None]
        found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if need else None for need in needed]


def _formula(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    offset: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    groups: int,
    eps: float,
    correction: float,
    silu: bool,
    domain: Any,
) -> Tensor:
    with no_autocast(x):
        y = x.float() if offset is None else x.float() + offset[..., None, None]
        if domain is None:
            grouped = y.reshape(y.shape[0], groups, -1)
            var, mean = torch.var_mean(grouped, dim=2, correction=correction, keepdim=True)
            y = ((grouped - mean) * (var + eps).rsqrt()).reshape(y.shape)
        else:
            y = domain.normalize_groups(y, groups, eps, unbiased=correction > 0)
        y = y * weight[:, None, None] + bias[:, None, None]
        if scale is not None and shift is not None:
            y = y * (1 + scale[..., None, None]) + shift[..., None, None]
        return (functional.silu(y) if silu else y).to(x.dtype)


class _Plan:
    """How programs share images.

    A program has a tile of ``rows`` pixels by ``columns`` channels at once. Those that sum up see
    ``share`` pixels of a sample one tile after the other, so that there are ``parts`` of a sample.
    """

    def __init__(self, x: Tensor) -> None:
        batch, self.channels, height, width = x.shape
        self.batch, self.pixels = batch, height * width
        self.columns = min(triton.next_power_of_2(self.channels), _MOST_CHANNELS)
        self.rows = min(_TILE // self.columns, triton.next_power_of_2(self.pixels))
        self.blocks = triton.cdiv(self.channels, self.columns)
        self.tiles = triton.cdiv(self.pixels, self.rows)
        parts = min(triton.cdiv(_PROGRAMS, batch * self.blocks), self.tiles)
        self.share = triton.cdiv(self.tiles, parts) * self.rows
        self.parts = triton.cdiv(self.pixels, self.share)

    def over(self, ranks: int) -> "_Plan":
        """Return how to combine sums of ranks, one part of each."""
        plan = copy(self)
        plan.parts, plan.share, plan.pixels = ranks, self.pixels, ranks * self.pixels
        return plan

    def launch(self, kernel: Any, parts: int, *arguments: Any, **options: Any) -> None:
        """Launch a kernel with programs for parts of samples, and blocks of channels."""
        kernel[self.batch * parts, self.blocks](
            *arguments,
            self.pixels,
            self.channels,
            parts,
            rows=self.rows,
            columns=self.columns,
            num_warps=_WARPS,
            **options,
        )

    def combine(self, kernel: Any, groups: int, *arguments: Any, **options: Any) -> None:
        """Launch a kernel with a program for each group of channels of each sample."""
        width = self.channels // groups
        columns = triton.next_power_of_2(width)
        rows = min(triton.next_power_of_2(self.parts), max(_PARTIAL // columns, 1))
        kernel[self.batch, groups](
            *arguments,
            self.pixels,
            self.channels,
            self.parts,
            width=width,
            rows=rows,
            columns=columns,
            num_warps=4,
            **options,
        )


def _affine(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    offset: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    groups: int,
    eps: float,
    correction: float,
    *,
    domain: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return five numbers of each channel of each sample, and the means of this rank's pixels.

    The result is factor (x - center) + shift, before an activation. The fourth number is the mean
    of x - center, the last the reciprocal of the standard deviation. The means are None where there
    are no other ranks.
    """
    plan = _Plan(x)
    moments = x.new_empty(plan.batch, plan.parts, 2, plan.channels, dtype=torch.float32)
    affine = x.new_empty(plan.batch, 5, plan.channels, dtype=torch.float32)
    plan.launch(moments_kernel, plan.parts, x, moments, plan.share)
    means = None
    if domain is not None:
        own = _merged(plan, moments)
        means = own[:, 0, 0]
        moments, plan = domain.all_gather(own, 1, [1] * domain.size), plan.over(domain.size)
    signals = []
    for signal in (offset, scale, shift):
        given = weight[None] if signal is None else signal  # any tensor: it is not read
        signals += [given, *given.stride()]
    plan.combine(
        affine_kernel,
        groups,
        moments,
        weight,
        bias,
        *signals,
        affine,
        eps,
        correction,
        plan.share,
        has_offset=offset is not None,
        is_modulated=scale is not None,
    )
    return affine, means


def _merged(plan: _Plan, moments: Tensor) -> Tensor:
    """Return means and sums of squared deviations of all parts as of one."""
    counts = moments.new_full((plan.parts, 1), plan.share)
    counts[-1] = plan.pixels - (plan.parts - 1) * plan.share
    means, squares = moments.unbind(2)
    mean = (means * (counts / plan.pixels)).sum(1, keepdim=True)
    squares = (squares + counts * (means - mean).square()).sum(1, keepdim=True)
    return torch.stack((mean, squares), dim=2)


def _sums_of_parts(plan: _Plan, x: Tensor, dy: Tensor, affine: Tensor, silu: bool) -> Tensor:
    """Return sums of g, and of g (x - center), of each channel of each part of the samples.

    With g the gradient before the activation.
    """
    parts = x.new_empty(plan.batch, plan.parts, 2, plan.channels, dtype=torch.float32)
    plan.launch(sums_kernel, plan.parts, x, dy, affine, parts, plan.share, silu=silu)
    return parts


def _combined(plan: _Plan, parts: Tensor, affine: Tensor, groups: int, correction: float) -> Tensor:
    """Return five numbers of each channel of each sample.

    The sums of g, and of g times the normalized images; k and l, such that the gradient is
    factor g - k - l (x - center); and the sum of the gradient.
    """
    sums = torch.empty_like(affine)
    plan.combine(combine_kernel, groups, parts, affine, sums, correction)
    return sums


def _combined_over_ranks(
    plan: _Plan,
    parts: Tensor,
    affine: Tensor,
    means: Tensor,
    groups: int,
    correction: float,
    domain: Any,
) -> Tensor:
    """Return the numbers of :func:`_combined`, all sums over this rank's pixels."""
    own = parts.sum(1)
    whole = plan.over(domain.size)
    whole.parts = 1
    sums = _combined(whole, domain.all_reduce(own), affine, groups, correction)
    center, factor, _, _, reciprocal = affine.unbind(1)
    _, _, constant, slope, _ = sums.unbind(1)
    plain, weighted = own.unbind(1)
    total = factor * plain - plan.pixels * (constant + slope * (means - center))
    return torch.stack((plain, weighted * reciprocal, constant, slope, total), dim=1)


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def moments_kernel(  # type: ignore[no-untyped-def]
        x, moments, share, pixels, channels, parts, rows: tl.constexpr, columns: tl.constexpr
    ):
        """Write means of channels and sums of squared deviations, of a share of the pixels."""
        sample, part = tl.program_id(0) // parts, tl.program_id(0) % parts
        column = tl.program_id(1) * columns + tl.arange(0, columns)
        row = tl.arange(0, rows)
        x += (sample.to(tl.int64) * pixels + part * share) * channels
        place = row[:, None] * channels + column[None, :]
        count = tl.minimum(pixels - part * share, share)
        # Each place in the tile has a mean of its own, until the end: so places need not meet.
        mean = tl.zeros((rows, columns), dtype=tl.float32)
        squares = tl.zeros((rows, columns), dtype=tl.float32)
        seen = 0.0
        for first in range(0, count, rows):
            seen += 1.0
            inside = (row < count - first)[:, None] & (column < channels)[None, :]
            values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
            deviation = tl.where(inside, values - mean, 0.0)
            mean += deviation * (1.0 / seen)
            squares += deviation * (values - mean)
            x += rows * channels
        counts = ((count - row + rows - 1) // rows).to(tl.float32)[:, None]
        total = tl.sum(mean * counts, axis=0) / count
        spread = mean - total[None, :]
        squares = tl.sum(squares + counts * spread * spread, axis=0)
        moments += tl.program_id(0).to(tl.int64) * 2 * channels + column
        tl.store(moments, total, mask=column < channels)
        tl.store(moments + channels, squares, mask=column < channels)

    @triton.jit  # type: ignore[untyped-decorator]
    def affine_kernel(  # type: ignore[no-untyped-def]
        moments,
        weight,
        bias,
        offset,
        offset_sample,
        offset_channel,
        scale,
        scale_sample,
        scale_channel,
        shift,
        shift_sample,
        shift_channel,
        affine,
        eps,
        correction,
        share,
        pixels,
        channels,
        parts,
        has_offset: tl.constexpr,
        is_modulated: tl.constexpr,
        width: tl.constexpr,
        rows: tl.constexpr,
        columns: tl.constexpr,
    ):
        """Write what normalizes the channels of a group, see :func:`_affine`."""
        sample = tl.program_id(0).to(tl.int64)
        inside = tl.arange(0, columns) < width
        column = tl.program_id(1) * width + tl.arange(0, columns)
        moments += sample * parts * 2 * channels
        mean = tl.zeros((rows, columns), dtype=tl.float32)
        for first in range(0, parts, rows):
            part = first + tl.arange(0, rows)
            count = tl.minimum(pixels - part * share, share).to(tl.float32)[:, None]
            place = moments + (part * 2 * channels)[:, None] + column[None, :]
            mask = (part < parts)[:, None] & inside[None, :]
            mean += tl.load(place, mask=mask, other=0.0) * (count / pixels)
        mean = tl.sum(mean, axis=0)
        squares = tl.zeros((rows, columns), dtype=tl.float32)
        for first in range(0, parts, rows):
            part = first + tl.arange(0, rows)
            count = tl.minimum(pixels - part * share, share).to(tl.float32)[:, None]
            place = moments + (part * 2 * channels)[:, None] + column[None, :]
            mask = (part < parts)[:, None] & inside[None, :]
            spread = tl.load(place, mask=mask, other=0.0) - mean[None, :]
            inner = tl.load(place + channels, mask=mask, other=0.0)
            squares += tl.where(mask, inner + count * spread * spread, 0.0)
        squares = tl.sum(squares, axis=0)

        before = mean
        if has_offset:
            place = offset + sample * offset_sample + column * offset_channel
            before += tl.load(place, mask=inside, other=0.0).to(tl.float32)
        center = tl.sum(tl.where(inside, before, 0.0), axis=0) / width
        spread = tl.where(inside, before - center, 0.0)
        squares = tl.sum(squares, axis=0) + tl.sum(spread * spread, axis=0) * pixels
        variance = squares / (pixels * 1.0 * width - correction)
        reciprocal = 1.0 / tl.sqrt(variance + eps)
        factor = reciprocal * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        constant = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
        if is_modulated:
            place = scale + sample * scale_sample + column * scale_channel
            more = 1.0 + tl.load(place, mask=inside, other=0.0).to(tl.float32)
            place = shift + sample * shift_sample + column * shift_channel
            constant = constant * more + tl.load(place, mask=inside, other=0.0).to(tl.float32)
            factor *= more
        affine += sample * 5 * channels + column
        tl.store(affine, mean - spread, mask=inside)
        tl.store(affine + channels, factor, mask=inside)
        tl.store(affine + 2 * channels, constant, mask=inside)
        tl.store(affine + 3 * channels, spread, mask=inside)
        tl.store(affine + 4 * channels, tl.zeros_like(mean) + reciprocal, mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def normalize_kernel(  # type: ignore[no-untyped-def]
        x,
        affine,
        y,
        pixels,
        channels,
        parts,
        silu: tl.constexpr,
        rows: tl.constexpr,
        columns: tl.constexpr,
    ):
        """Write a tile of the result."""
        sample, part = tl.program_id(0) // parts, tl.program_id(0) % parts
        column = tl.program_id(1) * columns + tl.arange(0, columns)
        row = tl.arange(0, rows)
        exists = column < channels
        affine += sample.to(tl.int64) * 5 * channels + column
        center = tl.load(affine, mask=exists, other=0.0)
        factor = tl.load(affine + channels, mask=exists, other=0.0)
        shift = tl.load(affine + 2 * channels, mask=exists, other=0.0)
        start = (sample.to(tl.int64) * pixels + part * rows) * channels
        place = row[:, None] * channels + column[None, :]
        inside = (row < pixels - part * rows)[:, None] & exists[None, :]
        values = tl.load(x + start + place, mask=inside, other=0.0).to(tl.float32)
        result = (values - center[None, :]) * factor[None, :] + shift[None, :]
        if silu:
            result = result * tl.sigmoid(result)
        tl.store(y + start + place, result.to(y.dtype.element_ty), mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def before_activation(  # type: ignore[no-untyped-def]
        gradient, deviation, factor, shift, silu: tl.constexpr
    ):
        """Return the gradient of what goes into the activation."""
        gradient = gradient.to(tl.float32)
        if silu:
            z = deviation * factor[None, :] + shift[None, :]
            gate = tl.sigmoid(z)
            gradient *= gate * (1.0 + z * (1.0 - gate))
        return gradient

    @triton.jit  # type: ignore[untyped-decorator]
    def sums_kernel(  # type: ignore[no-untyped-def]
        x,
        dy,
        affine,
        sums,
        share,
        pixels,
        channels,
        parts,
        silu: tl.constexpr,
        rows: tl.constexpr,
        columns: tl.constexpr,
    ):
        """Write sums over a share of the pixels: of gradients, and of these times deviations."""
        sample, part = tl.program_id(0) // parts, tl.program_id(0) % parts
        column = tl.program_id(1) * columns + tl.arange(0, columns)
        row = tl.arange(0, rows)
        exists = column < channels
        affine += sample.to(tl.int64) * 5 * channels + column
        center = tl.load(affine, mask=exists, other=0.0)
        factor = tl.load(affine + channels, mask=exists, other=0.0)
        shift = tl.load(affine + 2 * channels, mask=exists, other=0.0)
        start = (sample.to(tl.int64) * pixels + part * share) * channels
        place = row[:, None] * channels + column[None, :]
        count = tl.minimum(pixels - part * share, share)
        plain = tl.zeros((rows, columns), dtype=tl.float32)
        weighted = tl.zeros((rows, columns), dtype=tl.float32)
        for first in range(0, count, rows):
            inside = (row < count - first)[:, None] & exists[None, :]
            values = tl.load(x + start + place, mask=inside, other=0.0).to(tl.float32)
            gradient = tl.load(dy + start + place, mask=inside, other=0.0)
            deviation = values - center[None, :]
            gradient = before_activation(gradient, deviation, factor, shift, silu)
            plain += gradient
            weighted += gradient * deviation
            start += rows * channels
        sums += tl.program_id(0).to(tl.int64) * 2 * channels + column
        tl.store(sums, tl.sum(plain, axis=0), mask=exists)
        tl.store(sums + channels, tl.sum(weighted, axis=0), mask=exists)

    @triton.jit  # type: ignore[untyped-decorator]
    def combine_kernel(  # type: ignore[no-untyped-def]
        parts_sums,
        affine,
        sums,
        correction,
        pixels,
        channels,
        parts,
        width: tl.constexpr,
        rows: tl.constexpr,
        columns: tl.constexpr,
    ):
        """Write what the gradients of a group are made of, see :func:`_sums`."""
        sample = tl.program_id(0).to(tl.int64)
        inside = tl.arange(0, columns) < width
        column = tl.program_id(1) * width + tl.arange(0, columns)
        parts_sums += sample * parts * 2 * channels
        plain = tl.zeros((rows, columns), dtype=tl.float32)
        weighted = tl.zeros((rows, columns), dtype=tl.float32)
        for first in range(0, parts, rows):
            part = first + tl.arange(0, rows)
            place = parts_sums + (part * 2 * channels)[:, None] + column[None, :]
            mask = (part < parts)[:, None] & inside[None, :]
            plain += tl.load(place, mask=mask, other=0.0)
            weighted += tl.load(place + channels, mask=mask, other=0.0)
        plain, weighted = tl.sum(plain, axis=0), tl.sum(weighted, axis=0)

        affine += sample * 5 * channels + column
        factor = tl.load(affine + channels, mask=inside, other=0.0)
        spread = tl.load(affine + 3 * channels, mask=inside, other=0.0)
        reciprocal = tl.load(affine + 4 * channels, mask=inside, other=0.0)
        count = pixels * 1.0 * width
        constant = tl.zeros_like(plain) + tl.sum(factor * plain, axis=0) / count
        slope = tl.sum(factor * weighted, axis=0) / (count - correction)
        slope = slope * reciprocal * reciprocal
        sums += sample * 5 * channels + column
        tl.store(sums, plain, mask=inside)
        tl.store(sums + channels, weighted * reciprocal, mask=inside)
        tl.store(sums + 2 * channels, constant, mask=inside)
        tl.store(sums + 3 * channels, slope, mask=inside)
        total = factor * plain - pixels * (constant + slope * spread)
        tl.store(sums + 4 * channels, total, mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def gradient_kernel(  # type: ignore[no-untyped-def]
        x,
        dy,
        affine,
        sums,
        dx,
        pixels,
        channels,
        parts,
        silu: tl.constexpr,
        rows: tl.constexpr,
        columns: tl.constexpr,
    ):
        """Write a tile of the gradient."""
        sample, part = tl.program_id(0) // parts, tl.program_id(0) % parts
        column = tl.program_id(1) * columns + tl.arange(0, columns)
        row = tl.arange(0, rows)
        exists = column < channels
        affine += sample.to(tl.int64) * 5 * channels + column
        center = tl.load(affine, mask=exists, other=0.0)
        factor = tl.load(affine + channels, mask=exists, other=0.0)
        shift = tl.load(affine + 2 * channels, mask=exists, other=0.0)
        sums += sample.to(tl.int64) * 5 * channels + column
        constant = tl.load(sums + 2 * channels, mask=exists, other=0.0)
        slope = tl.load(sums + 3 * channels, mask=exists, other=0.0)
        start = (sample.to(tl.int64) * pixels + part * rows) * channels
        place = row[:, None] * channels + column[None, :]
        inside = (row < pixels - part * rows)[:, None] & exists[None, :]
        values = tl.load(x + start + place, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(dy + start + place, mask=inside, other=0.0)
        deviation = values - center[None, :]
        gradient = before_activation(gradient, deviation, factor, shift, silu)
        result = factor[None, :] * gradient - constant[None, :] - deviation * slope[None, :]
        tl.store(dx + start + place, result.to(dx.dtype.element_ty), mask=inside)
