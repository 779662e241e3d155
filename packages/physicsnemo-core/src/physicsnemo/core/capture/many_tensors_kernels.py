# SPDX-License-Identifier: Apache-2.0
"""The kernels of :mod:`physicsnemo.core.capture.many_tensors`, which need Triton.

A table holds integers: addresses, and numbers in double precision by their bits. That of Adam
begins with ten settings, in the order of ``AdamSettings.row``: the logarithms of both betas, both
betas, eps, weight decay that is coupled and that is decoupled, the sign of gradients, whether there
is a scale, and whether there is a note of overflow. Then each block has a row of six: addresses of
parameters, gradients, their average, that of their squares and the count of steps, and how many
numbers the block has. That of a check has two for each block: an address, and how many numbers.
"""

try:
    import triton
    from triton import language as tl
except ImportError:  # a build of PyTorch that compiles for no GPU
    triton = None

if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def adam_kernel(  # type: ignore[no-untyped-def]
        table,
        rate,
        scale,
        found,
        block: tl.constexpr,
    ):
        """Advance a block of parameters."""
        row = table + 10 + tl.program_id(0) * 6
        skipped = (tl.load(table + 9) != 0) & (tl.load(found) != 0)
        number = tl.where(skipped, 0, tl.load(row + 5))
        lane = tl.arange(0, block)
        inside = lane < number
        parameters = tl.load(row).to(tl.pointer_type(tl.float32)) + lane
        gradients = tl.load(row + 1).to(tl.pointer_type(tl.float32)) + lane
        means = tl.load(row + 2).to(tl.pointer_type(tl.float32)) + lane
        squares = tl.load(row + 3).to(tl.pointer_type(tl.float32)) + lane
        count = tl.load(tl.load(row + 4).to(tl.pointer_type(tl.float32))).to(tl.float64)

        # Powers near 1 are taken in double precision, as their difference from 1 is what counts.
        one = tl.full((), 1.0, tl.float64)
        correction1 = one - tl.exp2(count * tl.load(table).to(tl.float64, bitcast=True))
        correction2 = one - tl.exp2(count * tl.load(table + 1).to(tl.float64, bitcast=True))
        beta1 = tl.load(table + 2).to(tl.float64, bitcast=True)
        beta2 = tl.load(table + 3).to(tl.float64, bitcast=True)
        eps = tl.load(table + 4).to(tl.float64, bitcast=True).to(tl.float32)
        coupled = tl.load(table + 5).to(tl.float64, bitcast=True).to(tl.float32)
        decoupled = tl.load(table + 6).to(tl.float64, bitcast=True)
        sign = tl.load(table + 7).to(tl.float64, bitcast=True).to(tl.float32)
        lr = tl.load(rate).to(tl.float64)
        size = (lr / correction1).to(tl.float32)
        root = tl.sqrt(correction2).to(tl.float32)

        p = tl.load(parameters, mask=inside, other=0.0)
        g = tl.load(gradients, mask=inside, other=0.0)
        if tl.load(table + 8) != 0:
            g = g / tl.load(scale)
            tl.store(gradients, g, mask=inside)  # as PyTorch leaves them, too
        g = sign * g + coupled * p
        p -= (lr * decoupled).to(tl.float32) * p
        m = tl.load(means, mask=inside, other=0.0)
        v = tl.load(squares, mask=inside, other=0.0)
        m = beta1.to(tl.float32) * m + (one - beta1).to(tl.float32) * g
        v = beta2.to(tl.float32) * v + (one - beta2).to(tl.float32) * g * g
        p -= size * m / (tl.sqrt(v) / root + eps)
        tl.store(means, m, mask=inside)
        tl.store(squares, v, mask=inside)
        tl.store(parameters, p, mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def check_kernel(table, found, factor, block: tl.constexpr):  # type: ignore[no-untyped-def]
        """Scale a block of numbers, and note if any is not finite."""
        row = table + tl.program_id(0) * 2
        lane = tl.arange(0, block)
        inside = lane < tl.load(row + 1)
        numbers = tl.load(row).to(tl.pointer_type(tl.float32)) + lane
        x = tl.load(numbers, mask=inside, other=0.0)
        # Not so of infinities and of what is no number.
        finite = tl.abs(x) <= 3.4028234663852886e38
        if tl.min(finite.to(tl.int32), axis=0) == 0:
            tl.store(found, 1.0)
        by = tl.load(factor)
        if by != 1.0:
            tl.store(numbers, x * by, mask=inside)
