# SPDX-License-Identifier: Apache-2.0
"""Features plus an MLP of them as one kernel, for half precision that is compiled for a GPU.

Layers are as narrow as the features of a graph, so a product takes no longer than reading and
writing what it makes. Here a block of rows is read once, goes through all layers, and is written
once; the backward pass computes the layers again. It is imported only while compiling.
"""

from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton

from physicsnemo.models.gnn_layers._segment_sum import segment_sum

try:
    import triton
    from triton import language as tl
except ImportError:  # a build of PyTorch that compiles for no GPU
    triton = None

IS_AVAILABLE = triton is not None

# Two programs have room on each multiprocessor of an H200; each reads the weights once.
FORWARD = {"block": 64, "programs": 264, "num_warps": 4, "num_stages": 1}
BACKWARD = {"block": 64, "programs": 264, "num_warps": 4, "num_stages": 1}


@triton_op("physicsnemo::mlp_update", mutates_args=())
def mlp_update(
    x: Tensor,
    sources: Tensor,
    targets: Tensor | None,
    ends: list[Tensor],
    first: Tensor,
    middle: Tensor | None,
    middle_bias: Tensor | None,
    last: Tensor,
    last_bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    is_silu: bool,
    keeps: bool,
) -> tuple[Tensor, Tensor]:
    """Return features plus a normalized MLP of them, and the features in half precision.

    What the first layer adds to ``x @ first.T`` is given: features of nodes that it has mapped
    already, and that are gathered to the edges here; or, without ``targets``, features of the rows
    themselves.

    Parameters
    ----------
    x
        Features, of shape (rows, width).
    sources, targets
        What is added, of shape (nodes, width). All products have its precision, a half one.
    ends
        The three tensors of the :class:`~physicsnemo.models.gnn_layers.Incidence` of sources, and
        those of targets; empty without targets.
    first, middle, last
        Weights of shape (width, width), in any precision; None for no layer in the middle.
    middle_bias, last_bias, scale, shift
        Of layers and of the normalization, of shape (width,).
    eps
        That of the normalization.
    is_silu
        Whether the activation is SiLU, or else ReLU.
    keeps
        Whether the second result is wanted, for a backward pass. It is empty without, or if ``x``
        has that precision itself.
    """
    x = x.contiguous()
    updated = torch.empty_like(x)
    copies = keeps and x.dtype != sources.dtype
    copy = sources.new_empty(x.shape if copies else (0,))
    launch(
        wrap_triton(mlp_update_kernel),
        (x, copy, updated),
        (sources, targets, ends),
        (first, middle, middle_bias, last, last_bias, scale, shift),
        {"eps": eps, "is_silu": is_silu, "copies": copies, **FORWARD},
    )
    return updated, copy


@triton_op("physicsnemo::mlp_update_backward", mutates_args=())
def mlp_update_backward(
    gradient: Tensor,
    x: Tensor,
    sources: Tensor,
    targets: Tensor | None,
    ends: list[Tensor],
    first: Tensor,
    middle: Tensor | None,
    middle_bias: Tensor | None,
    last: Tensor,
    last_bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    is_silu: bool,
) -> list[Tensor]:
    """Return what gradients are made of.

    First that of ``x``; then those of what the first, the middle and the last layer return; then
    what the middle and the last layer take; then, for each block of rows, the sums of the gradients
    of the middle bias, the last bias, the scale and the shift.
    """
    gradient, x = gradient.contiguous(), x.contiguous()
    result, rows = torch.empty_like(gradient), x.shape[0]
    d_first, d_last, before_last = (torch.empty_like(x) for _ in range(3))
    d_middle, before_middle = (x.new_empty((0,) if middle is None else x.shape) for _ in range(2))
    blocks = triton.cdiv(rows, BACKWARD["block"])
    sums = x.new_empty((blocks, 4, x.shape[1]), dtype=torch.float32)
    results = [result, d_first, d_middle, d_last, before_middle, before_last, sums]
    launch(
        wrap_triton(mlp_update_backward_kernel),
        (x, gradient, *results),
        (sources, targets, ends),
        (first, middle, middle_bias, last, last_bias, scale, shift),
        {"eps": eps, "is_silu": is_silu, **BACKWARD},
    )
    return results


def launch(
    kernel: Any,
    rows: tuple[Tensor, ...],
    nodes: Any,
    weights: Any,
    options: dict[str, Any],
) -> None:
    """Launch one of the kernels, with arguments in place of those that are missing."""
    sources, targets, ends = nodes
    first, middle, middle_bias, *others = weights
    options = {"gathers": targets is not None, "is_deep": middle is not None} | options
    if targets is None:
        targets, source, target = sources, sources, sources
    else:
        source, target = ends[0], ends[3]
    if middle is None:
        middle, middle_bias = others[:2]
    arguments = (sources, targets, source, target, middle, middle_bias, *others)
    *nodes, middle, middle_bias, last, last_bias, scale, shift = (
        argument.contiguous() for argument in arguments
    )
    if first.stride(1) != 1:
        first = first.contiguous()
    count, width = rows[0].shape
    grid = (options.pop("programs"),)
    kernel[grid](
        *rows,
        *nodes,
        first,
        middle,
        middle_bias,
        last,
        last_bias,
        scale,
        shift,
        count,
        first.stride(0),
        width=int(width),
        **options,
    )


def _setup_context(ctx: Any, inputs: Any, output: Any) -> None:
    x, sources, targets, ends, *weights, ctx.eps, ctx.is_silu, _ = inputs
    copy = output[1]
    ctx.save_for_backward(copy if copy.numel() else x, sources, targets, *weights, *ends)


def _backward(ctx: Any, gradient: Tensor, _: Any) -> Any:
    x, sources, targets, first, middle, middle_bias, last, *others = ctx.saved_tensors
    last_bias, scale, shift, *ends = others
    weights = (first, middle, middle_bias, last, last_bias, scale, shift)
    result, d_first, d_middle, d_last, before_middle, before_last, sums = mlp_update_backward(
        gradient, x, sources, targets, ends, *weights, ctx.eps, ctx.is_silu
    )
    d_sources, d_targets = d_first, None
    if targets is not None:
        d_sources, d_targets = (segment_sum(d_first, *ends[at : at + 2]) for at in (1, 4))
    totals = sums.sum(0)
    of_weights = (
        (d_first.t() @ x).to(first.dtype),
        None if middle is None else (d_middle.t() @ before_middle).to(middle.dtype),
        None if middle is None else totals[0].to(middle_bias.dtype),
        (d_last.t() @ before_last).to(last.dtype),
        totals[1].to(last_bias.dtype),
        totals[2].to(scale.dtype),
        totals[3].to(shift.dtype),
    )
    return result, d_sources, d_targets, [None] * len(ends), *of_weights, None, None, None


mlp_update.register_autograd(_backward, setup_context=_setup_context)


if IS_AVAILABLE:

    @triton.jit  # type: ignore[untyped-decorator]
    def mlp_update_kernel(  # type: ignore[no-untyped-def]
        x,
        copy,
        updated,
        sources,
        targets,
        source,
        target,
        first,
        middle,
        middle_bias,
        last,
        last_bias,
        scale,
        shift,
        rows,
        stride,
        eps,
        gathers: tl.constexpr,
        is_deep: tl.constexpr,
        is_silu: tl.constexpr,
        copies: tl.constexpr,
        width: tl.constexpr,
        block: tl.constexpr,
    ):
        """Update blocks of rows."""
        half = sources.dtype.element_ty
        tile = tl.arange(0, block)[:, None] * width + tl.arange(0, width)[None, :]
        first_weight = tl.trans(load_weight(first, stride, width, half))
        middle_weight = tl.trans(load_weight(middle, width, width, half))
        last_weight = tl.trans(load_weight(last, width, width, half))
        for number in range(tl.program_id(0), tl.cdiv(rows, block), tl.num_programs(0)):
            start = tl.full((), block, tl.int64) * number
            inside = tl.arange(0, block) < rows - start
            mask = inside[:, None]
            place = start * width + tile
            features = tl.load(x + place, mask=mask, other=0.0)
            if copies:
                tl.store(copy + place, features.to(half), mask=mask)
            z = tl.dot(features.to(half), first_weight).to(half)
            z += load_nodes(sources, targets, source, target, start, place, inside, width, gathers)
            hidden, _ = activated(z, is_silu, half)
            if is_deep:
                z = tl.dot(hidden, middle_weight) + load_vector(middle_bias, width)
                hidden, _ = activated(z, is_silu, half)
            z = tl.dot(hidden, last_weight) + load_vector(last_bias, width)
            z -= tl.sum(z, axis=1)[:, None] * (1.0 / width)
            z *= tl.rsqrt(tl.sum(z * z, axis=1)[:, None] * (1.0 / width) + eps)
            z = z * load_vector(scale, width) + load_vector(shift, width)
            result = features.to(tl.float32) + z.to(half).to(tl.float32)
            tl.store(updated + place, result.to(updated.dtype.element_ty), mask=mask)

    @triton.jit  # type: ignore[untyped-decorator]
    def mlp_update_backward_kernel(  # type: ignore[no-untyped-def]
        x,
        gradient,
        result,
        d_first,
        d_middle,
        d_last,
        before_middle,
        before_last,
        sums,
        sources,
        targets,
        source,
        target,
        first,
        middle,
        middle_bias,
        last,
        last_bias,
        scale,
        shift,
        rows,
        stride,
        eps,
        gathers: tl.constexpr,
        is_deep: tl.constexpr,
        is_silu: tl.constexpr,
        width: tl.constexpr,
        block: tl.constexpr,
    ):
        """Write what gradients are made of, for blocks of rows."""
        half = sources.dtype.element_ty
        tile = tl.arange(0, block)[:, None] * width + tl.arange(0, width)[None, :]
        first_weight = load_weight(first, stride, width, half)
        middle_weight = load_weight(middle, width, width, half)
        last_weight = load_weight(last, width, width, half)
        for number in range(tl.program_id(0), tl.cdiv(rows, block), tl.num_programs(0)):
            start = tl.full((), block, tl.int64) * number
            inside = tl.arange(0, block) < rows - start
            mask = inside[:, None]
            place = start * width + tile

            # The layers again.
            features = tl.load(x + place, mask=mask, other=0.0)
            z = tl.dot(features, tl.trans(first_weight)).to(half)
            z += load_nodes(sources, targets, source, target, start, place, inside, width, gathers)
            hidden, first_slope = activated(z, is_silu, half)
            if is_deep:
                tl.store(before_middle + place, hidden, mask=mask)
                z = tl.dot(hidden, tl.trans(middle_weight)) + load_vector(middle_bias, width)
                hidden, middle_slope = activated(z, is_silu, half)
            tl.store(before_last + place, hidden, mask=mask)
            z = tl.dot(hidden, tl.trans(last_weight)) + load_vector(last_bias, width)

            # The normalization: statistics, and its derivative.
            z -= tl.sum(z, axis=1)[:, None] * (1.0 / width)
            by = tl.rsqrt(tl.sum(z * z, axis=1)[:, None] * (1.0 / width) + eps)
            z *= by
            narrow = tl.load(gradient + place, mask=mask, other=0.0).to(half)
            totals = summed(narrow, 3, tl.zeros((16, width), tl.float32), block)
            g = narrow.to(tl.float32)
            totals = summed((g * z).to(half), 2, totals, block)
            g = g * by * load_vector(scale, width)
            z *= tl.sum(g * z, axis=1)[:, None] * (1.0 / width)
            g = g - tl.sum(g, axis=1)[:, None] * (1.0 / width) - z

            # The layers backwards.
            narrow = g.to(half)
            # Halves, counted twice: of the same tensor two copies would stand in shared memory at
            # once, and leave no room for a second program.
            totals = summed(0.5 * narrow, 1, totals, block, 2.0)
            tl.store(d_last + place, narrow, mask=mask)
            g = tl.dot(narrow, last_weight)
            if is_deep:
                narrow = g.to(half) * middle_slope
                totals = summed(narrow, 0, totals, block)
                tl.store(d_middle + place, narrow, mask=mask)
                g = tl.dot(narrow, middle_weight)
            narrow = g.to(half) * first_slope
            tl.store(d_first + place, narrow, mask=mask)
            g = tl.dot(narrow, first_weight).to(half).to(tl.float32)
            g += tl.load(gradient + place, mask=mask, other=0.0).to(tl.float32)
            tl.store(result + place, g.to(result.dtype.element_ty), mask=mask)
            number_of = tl.arange(0, 16)[:, None]
            of_block = number_of * width + tl.arange(0, width)[None, :]
            tl.store(sums + number * 4 * width + of_block, totals, mask=number_of < 4)

    @triton.jit  # type: ignore[untyped-decorator]
    def load_weight(  # type: ignore[no-untyped-def]
        weight, stride, width: tl.constexpr, half: tl.constexpr
    ):
        """Return a weight, of shape (outputs, inputs)."""
        lane = tl.arange(0, width)
        return tl.load(weight + lane[:, None] * stride + lane[None, :]).to(half)

    @triton.jit  # type: ignore[untyped-decorator]
    def load_vector(vector, width: tl.constexpr):  # type: ignore[no-untyped-def]
        """Return a row of numbers in single precision."""
        return tl.load(vector + tl.arange(0, width)).to(tl.float32)[None, :]

    @triton.jit  # type: ignore[untyped-decorator]
    def load_nodes(  # type: ignore[no-untyped-def]
        sources,
        targets,
        source,
        target,
        start,
        place,
        inside,
        width: tl.constexpr,
        gathers: tl.constexpr,
    ):
        """Return what is added to the first layer's product."""
        if gathers:
            edge = start + tl.arange(0, inside.shape[0])
            column = tl.arange(0, width)[None, :]
            begin = tl.load(source + edge, mask=inside, other=0)[:, None] * width
            end = tl.load(target + edge, mask=inside, other=0)[:, None] * width
            added = tl.load(sources + begin + column) + tl.load(targets + end + column)
        else:
            added = tl.load(sources + place, mask=inside[:, None], other=0.0)
        return added

    @triton.jit  # type: ignore[untyped-decorator]
    def summed(  # type: ignore[no-untyped-def]
        rows, place, totals, block: tl.constexpr, each: tl.constexpr = 1.0
    ):
        """Put the sum of rows in a place among others.

        By a product, which costs less than a sum in which numbers go from thread to thread.
        """
        product = tl.dot(tl.full((16, block), each, rows.dtype), rows)
        return tl.where(tl.arange(0, 16)[:, None] == place, product, totals)

    @triton.jit  # type: ignore[untyped-decorator]
    def activated(z, is_silu: tl.constexpr, half: tl.constexpr):  # type: ignore[no-untyped-def]
        """Return the activation, and its derivative."""
        if is_silu:
            z = z.to(tl.float32)
            part = tl.sigmoid(z)
            result = z * part
            slope = part + result * (1 - part)
        else:
            result = tl.where(z > 0, z, 0.0)
            slope = tl.where(z > 0, 1.0, 0.0)
        return result.to(half), slope.to(half)
