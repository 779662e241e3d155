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
from physicsnemo.models.gnn_layers._triton import IS_AVAILABLE, tl, triton

__all__ = ["IS_AVAILABLE", "mlp_update"]

# Two programs have room on each multiprocessor of an H200; each reads the weights once. With more
# than one stage, tiles that a program reads again would be read before it has written them.
LAUNCH = {"block": 64, "programs": 264, "num_warps": 4, "num_stages": 1}


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
        {"eps": eps, "is_silu": is_silu, "copies": copies, **LAUNCH},
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
    blocks = triton.cdiv(rows, LAUNCH["block"])
    sums = x.new_empty((blocks, 4, x.shape[1]), dtype=torch.float32)
    results = [result, d_first, d_middle, d_last, before_middle, before_last, sums]
    launch(
        wrap_triton(mlp_update_backward_kernel),
        (x, gradient, *results),
        (sources, targets, ends),
        (first, middle, middle_bias, last, last_bias, scale, shift),
        {"eps": eps, "is_silu": is_silu, **LAUNCH},
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
        first_weight = load_weight(first, stride, width, half)
        middle_weight = load_weight(middle, width, width, half)
        last_weight = load_weight(last, width, width, half)
        for number in range(tl.program_id(0), tl.cdiv(rows, block), tl.num_programs(0)):
            start = tl.full((), block, tl.int64) * number
            inside = tl.arange(0, block) < rows - start
            mask = inside[:, None]
            place = start * width + tile
            features = tl.load(x + place, mask=mask, other=0.0).to(half)
            if copies:
                features = through(copy, features, place, mask)
            z = tl.dot(features, tl.trans(first_weight)).to(half)
            z += load_nodes(sources, targets, source, target, start, place, inside, width, gathers)
            z, _ = normalized(
                z,
                (middle_weight, last_weight),
                (middle_bias, last_bias),
                (None, None, None, None),
                place,
                mask,
                eps,
                False,
                is_deep,
                is_silu,
                width,
            )
            z = z * load_vector(scale, width) + load_vector(shift, width)
            result = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
            result += z.to(half).to(tl.float32)
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
        """Write what gradients are made of, for blocks of rows.

        Registers are scarce here, so tiles are read again instead of kept.
        """
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
            total = sums + number * 4 * width
            features = tl.load(x + place, mask=mask, other=0.0)
            z = tl.dot(features, tl.trans(first_weight)).to(half)
            z += load_nodes(sources, targets, source, target, start, place, inside, width, gathers)
            z, by = normalized(
                z,
                (middle_weight, last_weight),
                (middle_bias, last_bias),
                (before_middle, before_last, d_first, d_middle),
                place,
                mask,
                eps,
                True,
                is_deep,
                is_silu,
                width,
            )

            # The derivative of the normalization.
            narrow = tl.load(gradient + place, mask=mask, other=0.0).to(half)
            if gradient.dtype.element_ty != half:
                narrow = through(d_last, narrow, place, mask)
            put_sum(total + 3 * width, narrow, block, width)
            g = narrow.to(tl.float32)
            put_sum(total + 2 * width, (g * z).to(half), block, width)
            g = g * by * load_vector(scale, width)
            z *= tl.sum(g * z, axis=1)[:, None] * (1.0 / width)
            g = g - tl.sum(g, axis=1)[:, None] * (1.0 / width) - z

            # The layers backwards.
            narrow = g.to(half)
            # Halves, counted twice: of the same tensor two copies would stand in shared memory at
            # once, and leave no room for a second program.
            put_sum(total + width, 0.5 * narrow, block, width, 2.0)
            tl.store(d_last + place, narrow, mask=mask)
            g = tl.dot(narrow, last_weight)
            tl.debug_barrier()  # before tiles are read that other threads have written
            before_first = before_last
            if is_deep:
                narrow = g.to(half) * slope(before_last, d_middle, place, mask, is_silu)
                put_sum(total, 0.5 * narrow, block, width, 2.0)
                tl.store(d_middle + place, narrow, mask=mask)
                g = tl.dot(narrow, middle_weight)
                before_first = before_middle
            narrow = g.to(half) * slope(before_first, d_first, place, mask, is_silu)
            tl.store(d_first + place, narrow, mask=mask)
            g = tl.dot(narrow, first_weight).to(half).to(tl.float32)
            g += tl.load(gradient + place, mask=mask, other=0.0).to(tl.float32)
            tl.store(result + place, g.to(result.dtype.element_ty), mask=mask)

    @triton.jit  # type: ignore[untyped-decorator]
    def normalized(  # type: ignore[no-untyped-def]
        z,
        weights,
        biases,
        kept,
        place,
        mask,
        eps,
        keeps: tl.constexpr,
        is_deep: tl.constexpr,
        is_silu: tl.constexpr,
        width: tl.constexpr,
    ):
        """Return what the layers make of the first one's result, normalized, and the scale of that.

        For a backward pass, keep what the layers behind the first take, and slopes.
        """
        middle, last = weights
        middle_bias, last_bias = biases
        before_middle, before_last, first_slope, middle_slope = kept
        half = z.dtype
        hidden = activated(z, first_slope, place, mask, keeps, is_silu, half)
        if is_deep:
            if keeps:
                tl.store(before_middle + place, hidden, mask=mask)
            z = tl.dot(hidden, tl.trans(middle)) + load_vector(middle_bias, width)
            hidden = activated(z, middle_slope, place, mask, keeps, is_silu, half)
        if keeps:
            tl.store(before_last + place, hidden, mask=mask)
        z = tl.dot(hidden, tl.trans(last)) + load_vector(last_bias, width)
        z -= tl.sum(z, axis=1)[:, None] * (1.0 / width)
        by = tl.rsqrt(tl.sum(z * z, axis=1)[:, None] * (1.0 / width) + eps)
        return z * by, by

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

    @triton.jit
    def through(memory, rows, place, mask):  # type: ignore[no-untyped-def]
        """Write rows, and read them again.

        What comes of single precision would take twice the shared memory on its way to other
        threads, and leave no room for a second program.
        """
        tl.store(memory + place, rows, mask=mask)
        tl.debug_barrier()
        return tl.load(memory + place, mask=mask, other=0.0)

    @triton.jit  # type: ignore[untyped-decorator]
    def put_sum(  # type: ignore[no-untyped-def]
        total, rows, block: tl.constexpr, width: tl.constexpr, each: tl.constexpr = 1.0
    ):
        """Write the sum of rows.

        By a product, which costs less than a sum in which numbers go from thread to thread.
        """
        product = tl.dot(tl.full((16, block), each, rows.dtype), rows)
        copy = tl.arange(0, 16)[:, None]
        tl.store(total + 0 * copy + tl.arange(0, width)[None, :], product, mask=copy == 0)

    @triton.jit  # type: ignore[untyped-decorator]
    def activated(  # type: ignore[no-untyped-def]
        z, kept, place, mask, keeps: tl.constexpr, is_silu: tl.constexpr, half: tl.constexpr
    ):
        """Return the activation, and keep its derivative where that does not tell it."""
        if is_silu:
            z = z.to(tl.float32)
            part = tl.sigmoid(z)
            result = z * part
            if keeps:
                tl.store(kept + place, (part + result * (1 - part)).to(half), mask=mask)
        else:
            result = tl.where(z > 0, z, 0.0)
        return result.to(half)

    @triton.jit  # type: ignore[untyped-decorator]
    def slope(hidden, kept, place, mask, is_silu: tl.constexpr):  # type: ignore[no-untyped-def]
        """Return the derivative of an activation."""
        if is_silu:
            result = tl.load(kept + place, mask=mask, other=0.0)
        else:
            positive = tl.load(hidden + place, mask=mask, other=0.0) > 0
            result = tl.where(positive, 1.0, 0.0).to(hidden.dtype.element_ty)
        return result
