# SPDX-License-Identifier: Apache-2.0
"""Earth-specific transformers and Swin stages written out over all pairs of points of a grid.

Nothing here cuts a grid into windows: pairs of points in different windows have a weight of zero.
"""

import torch
from torch.nn import functional


def linear(weights, name, x):
    return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(weights, name, x):
    return functional.layer_norm(
        x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
    )


def pads(size, multiple):
    total = -size % multiple
    return total // 2, total - total // 2


def pad(x, window):
    """Pad (batch, *grid, channels) by zeros; return also where the grid lies in it."""
    amounts = [pads(size, w) for size, w in zip(x.shape[1:-1], window, strict=True)]
    flat = [amount for pair in reversed(amounts) for amount in pair]
    inside = tuple(
        slice(before, before + size)
        for (before, _), size in zip(amounts, x.shape[1:-1], strict=True)
    )
    return functional.pad(x, [0, 0, *flat]), (slice(None), *inside)


def attention(weights, name, x, window, biases, apart):
    """Attend among all pairs of points, given biases for each, and what to exclude."""
    batch, *grid, channels = x.shape
    heads = biases.shape[-1]
    q, k, v = (
        linear(weights, f"{name}.qkv", x).reshape(batch, -1, 3, heads, channels // heads).unbind(2)
    )
    logits = torch.einsum("bihc,bjhc->bhij", q, k) / (channels // heads) ** 0.5
    logits = logits + biases.permute(2, 0, 1) - 100.0 * apart
    place = coordinates(grid) // torch.tensor(window)
    together = (place[:, None] == place).all(-1)
    shares = logits.masked_fill(~together, -torch.inf).softmax(-1)
    mixed = torch.einsum("bhij,bjhc->bihc", shares, v).reshape(x.shape)
    return linear(weights, f"{name}.proj", mixed)


def coordinates(grid):
    return torch.cartesian_prod(*(torch.arange(size) for size in grid))


def earth_biases(table, grid, window):
    """Look up biases by the formula of the paper's pseudocode, for pairs of points of a grid."""
    point, window = coordinates(grid), torch.tensor(window)
    *first, width = (point % window).unbind(-1)
    index = width[:, None] - width + window[-1] - 1
    stride = 2 * window[-1] - 1
    for size, position in zip(reversed(window[:-1]), reversed(first), strict=True):
        index = index + stride * (position[:, None] + position * size)
        stride = stride * size**2
    counts = torch.tensor(grid) // window
    place = (point // window)[:, :-1]
    kind = place[:, 0] if len(grid) == 2 else place[:, 0] * counts[1] + place[:, 1]
    return table[index, kind[:, None].expand_as(index)]


def relative_biases(table, grid, window):
    point, (height, width) = coordinates(grid), window
    row, column = (point % torch.tensor(window)).unbind(-1)
    down, across = (axis[:, None] - axis for axis in (row, column))
    return table[(down + height - 1) * (2 * width - 1) + across + width - 1]


def regions(grid, shift, reference_window=None):
    """Tell which pairs of points of a rolled grid belong to parts that were not neighbours.

    With a window in longitude, label its axis as nvidia-physicsnemo does.
    """
    axes = [(torch.arange(n) >= n - s).long() for n, s in zip(grid, shift, strict=True)]
    if reference_window:
        size, step = grid[-1], shift[-1]
        label = torch.zeros(size + step, dtype=torch.long)
        label[-reference_window:-step] = 1
        label[-step:] = 2
        axes[-1] = label[:size]
    part = torch.stack([axis[i] for axis, i in zip(axes, coordinates(grid).T, strict=True)], -1)
    return (part[:, None] != part).any(-1)


def earth_block(weights, name, x, window, shifted, numerics, post_norm=None):
    """Attend and feed forward, as the pseudocode of Pangu's authors if ``post_norm``."""
    post_norm = numerics == "paper" if post_norm is None else post_norm
    shortcut = x
    x, inside = pad(x if post_norm else norm(weights, f"{name}.norm1", x), window)
    grid, axes = x.shape[1:-1], tuple(range(1, x.ndim - 1))
    shift = (1, 3, 6)[-len(window) :]
    if numerics == "paper":
        shift = tuple(width // 2 for width in window)
    apart = torch.zeros((), dtype=torch.bool)
    if shifted:
        there = (*shift[:-1], shift[-2]) if numerics == "reference-1.2" else shift
        x = x.roll([-step for step in there], axes)
        if numerics == "paper":
            apart = regions(grid, (*shift[:-1], 0))
        else:
            apart = regions(grid, shift, window[-1])
    biases = earth_biases(weights[f"{name}.attn.earth_position_bias_table"], grid, window)
    x = attention(weights, f"{name}.attn", x, window, biases, apart)
    x = (x.roll(shift, axes) if shifted else x)[inside]
    if not post_norm:
        return feed_forward(weights, name, shortcut + x)
    x = shortcut + norm(weights, f"{name}.norm1", x)
    hidden = functional.gelu(linear(weights, f"{name}.mlp.fc1", x))
    return x + norm(weights, f"{name}.norm2", linear(weights, f"{name}.mlp.fc2", hidden))


def earth_blocks(weights, name, x, window, numerics, post_norm=None):
    for index in range(blocks_of(weights, name)):
        block = f"{name}.{index}"
        x = earth_block(weights, block, x, window, index % 2 == 1, numerics, post_norm)
    return x


def swin_stage(weights, name, x, window):
    x, inside = pad(x, window)
    grid = x.shape[1:-1]
    shift = [w // 2 if n > w else 0 for n, w in zip(grid, window, strict=True)]
    for index in range(blocks_of(weights, f"{name}.layer.blocks")):
        block = f"{name}.layer.blocks.{index}"
        steps = shift if index % 2 else [0, 0]
        y = norm(weights, f"{block}.norm1", x).roll([-step for step in steps], (1, 2))
        table = weights[f"{block}.attn.relative_position_bias_table"]
        biases = relative_biases(table, grid, window)
        y = attention(weights, f"{block}.attn", y, window, biases, regions(grid, steps))
        x = feed_forward(weights, block, x + y.roll(steps, (1, 2)))
    return x[inside]


def blocks_of(weights, name):
    return len(
        {key[len(name) + 1 :].split(".")[0] for key in weights if key.startswith(f"{name}.")}
    )


def feed_forward(weights, name, x):
    hidden = linear(weights, f"{name}.mlp.fc1", norm(weights, f"{name}.norm2", x))
    return x + linear(weights, f"{name}.mlp.fc2", functional.gelu(hidden))


def downsample(weights, name, x):
    """Join two by two points, whose channels come row by row."""
    x, _ = pad(x, (1, 2, 2)[-(x.ndim - 2) :])
    parts = [x[..., i::2, j::2, :] for i in range(2) for j in range(2)]
    return linear(weights, f"{name}.linear", norm(weights, f"{name}.norm", torch.cat(parts, -1)))


def upsample(weights, name, x, size):
    parts = linear(weights, f"{name}.linear1", x).chunk(4, -1)
    *others, height, width, _ = x.shape
    finer = x.new_empty(*others, 2 * height, 2 * width, parts[0].shape[-1])
    for index, part in enumerate(parts):
        finer[..., index // 2 :: 2, index % 2 :: 2, :] = part
    finer = finer[..., : size[0], : size[1], :]
    return linear(weights, f"{name}.linear2", norm(weights, f"{name}.norm", finer))


def embed(weights, name, x, amounts):
    """Convolve patches of (batch, channels, *size), after padding by pairs for each axis."""
    kernel = weights[f"{name}.proj.weight"]
    convolve = functional.conv2d if kernel.ndim == 4 else functional.conv3d
    x = functional.pad(x, [amount for pair in reversed(amounts) for amount in pair])
    x = convolve(x, kernel, weights[f"{name}.proj.bias"], stride=kernel.shape[2:])
    return x.movedim(1, -1)


def recover(weights, name, x, size):
    kernel = weights[f"{name}.conv.weight"]
    convolve = functional.conv_transpose2d if kernel.ndim == 4 else functional.conv_transpose3d
    x = convolve(x.movedim(-1, 1), kernel, weights[f"{name}.conv.bias"], stride=kernel.shape[2:])
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x
