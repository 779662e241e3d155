# SPDX-License-Identifier: Apache-2.0
"""What both U-Nets have: the plan of their levels, flags of all layers, and implied numerics."""

from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any, NamedTuple

from torch import nn

from physicsnemo.nn.checks import check_at_least
from physicsnemo.nn.numerics import implied

IMPLIED = implied(
    "heads_split_pixels",
    "sines_before_cosines",
    "joined_embedding_selection",
    "lead_times_need_grid",
    "unbiased_variance",
    "images_before_patches",
    "batch_residual",
)
"""Numerics of files that state none: one for all, as a wrapper's network may be any."""


class Block(NamedTuple):
    """Plan of a block; with ``takes_skip``, its input is joined with an output of the encoder."""

    name: str
    in_channels: int
    out_channels: int
    attention: bool = False
    up: bool = False
    down: bool = False
    takes_skip: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of :class:`UNetBlock` that differ from block to block."""
        return {name: value for name, value in self._asdict().items() if name in _ARGUMENTS}


_ARGUMENTS = {"in_channels", "out_channels", "attention", "up", "down"}


class Level(NamedTuple):
    """Plan of a level (one resolution): the blocks of the encoder, then those of the decoder."""

    name: str
    channels: int
    encoder: Sequence[Block]
    decoder: Sequence[Block]


def plan_levels(
    height: int,
    first_channels: int,
    channels: Sequence[int],
    num_blocks: int,
    attn_resolutions: Collection[int],
    attention_in_last_only: bool,
    bottleneck_attention: bool = True,
) -> list[Level]:
    """Return the levels of a U-Net, from the full resolution down.

    Parameters
    ----------
    height
        Height of the images, by which levels are named.
    first_channels
        Channels that the first convolution makes of the image.
    channels
        Channels of each level.
    num_blocks
        Blocks of a level of the encoder, besides the one that halves the resolution; may be 0.
    attn_resolutions
        Heights of the levels whose blocks have attention.
    attention_in_last_only
        Whether it is, in levels of the decoder, in the last block only.
    bottleneck_attention
        Whether the first block of the decoder has it, at any height.

    Raises
    ------
    ValueError
        If two levels have no pixel and so the same name, or a number is smaller than it may be.
    """
    _check(
        height=height,
        channels=channels,
        num_blocks=num_blocks,
        attn_resolutions=attn_resolutions,
    )
    # Files name blocks by the resolution of their level, of images of img_resolution.
    heights = [height >> depth for depth in range(len(channels))]
    names = [f"{height}x{height}" for height in heights]
    attentive = [height in attn_resolutions for height in heights]
    current, skips = first_channels, [first_channels]
    encoder: list[list[Block]] = []
    for depth, width in enumerate(channels):
        blocks = [] if depth == 0 else [Block(f"{names[depth]}_down", current, current, down=True)]
        for i in range(num_blocks):
            blocks.append(Block(f"{names[depth]}_block{i}", current, width, attentive[depth]))
            current = width
        skips += [block.out_channels for block in blocks]
        encoder.append(blocks)
    decoder: list[list[Block]] = []
    for depth in reversed(range(len(channels))):
        name, width = names[depth], channels[depth]
        if not decoder:
            blocks = [
                Block(f"{name}_in0", current, current, attention=bottleneck_attention),
                Block(f"{name}_in1", current, current),
            ]
        else:
            blocks = [Block(f"{name}_up", current, current, up=True)]
        for i in range(num_blocks + 1):
            attention = attentive[depth] and (i == num_blocks or not attention_in_last_only)
            # One block for each output of the encoder's level; the first of these is that of the
            # downsampling block, or of the first convolution.
            wide = current + skips.pop()
            blocks.append(Block(f"{name}_block{i}", wide, width, attention, takes_skip=True))
            current = width
        decoder.insert(0, blocks)
    return [Level(*level) for level in zip(names, channels, encoder, decoder, strict=True)]


def _check(
    height: int, channels: Sequence[int], num_blocks: int, attn_resolutions: Collection[int]
) -> None:
    if not channels or min(channels) < 1:
        raise ValueError(f"expected a positive number of channels for each level, got {channels}")
    check_at_least(0, num_blocks=num_blocks)
    # A deepest level without a pixel is that of a model for larger images than img_resolution says.
    if len(channels) > 1 and height >> (len(channels) - 2) == 0:
        raise ValueError(
            f"{len(channels)} levels halve the resolution {len(channels) - 1} times, which leaves "
            f"nothing of a height of {height}; shorten channel_mult, or raise img_resolution to "
            f"the height of the images"
        )
    if not all(isinstance(height, Real) and height >= 0 for height in attn_resolutions):
        raise ValueError(
            f"expected attn_resolutions to be heights of levels, got {list(attn_resolutions)}"
        )


def shared_flag(name: str, description: str) -> property:
    """Return a property that, when it is set, is set in all layers that have it too.

    Parameters
    ----------
    name
        Name of the attribute that layers hold.
    description
        Docstring of the property.
    """
    own = f"_{name}"

    def get(network: nn.Module) -> bool:
        return bool(vars(network)[own])

    def set_(network: nn.Module, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"expected {name} to be True or False, got {value!r}")
        vars(network)[own] = value
        for layer in network.modules():
            if name in vars(layer):
                vars(layer)[name] = value

    return property(get, set_, doc=description)


AMP_MODE = shared_flag(
    "amp_mode",
    "Whether layers leave types to autocast; setting it sets it in all of them.",
)
PROFILE_MODE = shared_flag(
    "profile_mode", "Whether profiles show the parts of the network; setting it sets it in all."
)
FLAGS = ("amp_mode", "profile_mode")
