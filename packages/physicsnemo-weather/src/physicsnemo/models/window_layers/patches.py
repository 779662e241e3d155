# SPDX-License-Identifier: Apache-2.0
"""Fields divided into patches, each of which becomes a point of a coarser grid, and back."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.window_layers.padding import Pads, centred_pads, crop_grid, pad_grid

_CONVOLUTIONS: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class PatchEmbed(nn.Module):
    """Pad fields until patches fill them, and map each patch to a vector.

    That is a convolution whose stride is its kernel, computed as one product of matrices.

    Parameters
    ----------
    img_size
        Size of the fields along their two or three axes.
    patch_size
        Size of a patch.
    in_chans
        Channels of the fields.
    embed_dim
        Length of the vectors.
    pads
        What makes the fields' size a multiple of the patch's; by default, half before and half
        after.
    norm
        Whether to normalize the vectors.

    Attributes
    ----------
    grid
        Number of patches along each axis.
    """

    def __init__(
        self,
        img_size: Sequence[int],
        patch_size: Sequence[int],
        in_chans: int,
        embed_dim: int,
        pads: Pads | None = None,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.pads = centred_pads(img_size, patch_size) if pads is None else pads
        self.grid = patch_grid(img_size, patch_size)
        convolution = _CONVOLUTIONS[len(self.grid)]
        self.proj = convolution(in_chans, embed_dim, self.patch_size, stride=self.patch_size)
        self.norm = nn.LayerNorm(embed_dim) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_chans, *img_size) to (batch, *grid, embed_dim)."""
        patches = split_patches(pad_grid(x, self.pads, channels_last=False), self.patch_size)
        vectors = functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        output: Tensor = self.norm(vectors)
        return output


class PatchRecovery(nn.Module):
    """Map vectors to patches of fields, and crop what they form to size.

    Parameters
    ----------
    img_size
        Size of the fields along their two or three axes.
    patch_size
        Size of a patch.
    in_chans
        Length of the vectors.
    out_chans
        Channels of the fields.

    Attributes
    ----------
    grid
        Number of patches along each axis.
    """

    def __init__(
        self, img_size: Sequence[int], patch_size: Sequence[int], in_chans: int, out_chans: int
    ) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.pads = centred_pads(img_size, patch_size)
        self.grid = patch_grid(img_size, patch_size)
        convolution = _TRANSPOSED[len(self.patch_size)]
        self.conv = convolution(in_chans, out_chans, self.patch_size, stride=self.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map vectors of shape (batch, *grid, in_chans) to (batch, out_chans, *img_size)."""
        patches = functional.linear(x, self.conv.weight.flatten(1).t())
        fields = join_patches(patches, self.patch_size)
        fields = fields + self.conv.bias.view(-1, *[1] * len(self.patch_size))
        return crop_grid(fields, self.pads, channels_last=False)


def patch_grid(img_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Return how many patches cover fields, along each axis."""
    return tuple(-(-size // patch) for size, patch in zip(img_size, patch_size, strict=True))


def split_patches(fields: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Divide fields of shape (batch, channels, *size) into patches.

    Returns
    -------
    The channels and points of each patch, of shape (batch, *grid, channels * points).
    """
    axes = len(patch_size)
    for axis, patch in enumerate(patch_size):
        fields = fields.unflatten(2 + 2 * axis, (-1, patch))
    grid, points = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
    return fields.permute(0, *grid, 1, *points).flatten(1 + axes)


def join_patches(patches: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Undo :func:`split_patches`."""
    axes = len(patch_size)
    patches = patches.unflatten(-1, (-1, *patch_size))
    pairs = zip(range(1, 1 + axes), range(2 + axes, 2 + 2 * axes), strict=True)
    fields = patches.permute(0, 1 + axes, *chain.from_iterable(pairs))
    for axis in range(2, 2 + axes):
        fields = fields.flatten(axis, axis + 1)
    return fields
