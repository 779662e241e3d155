# SPDX-License-Identifier: Apache-2.0
"""Patch embedding and recovery, downsampling and upsampling."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.models.window_layers.windows import Pads, centered_pads, crop_grid, pad_grid

_CONVOLUTIONS: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
# Downsampling of (level,) latitude and longitude.
_FACTORS = (1, 2, 2)


class PatchEmbed(nn.Module):
    """Patch embedding of 2D or 3D fields, which are padded to whole patches.

    Parameters
    ----------
    img_size
        Size of the fields along their two or three axes.
    patch_size
        Size of a patch.
    in_chans
        Number of channels of the fields.
    embed_dim
        Number of embedding channels.
    pads
        Padding of the fields; by default, half before and half after.
    norm
        Whether to normalize the embeddings.

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
        self.pads = centered_pads(img_size, patch_size) if pads is None else pads
        self.grid = patch_grid(img_size, patch_size)
        convolution = _CONVOLUTIONS[len(self.grid)]
        self.proj = convolution(in_chans, embed_dim, self.patch_size, stride=self.patch_size)
        self.norm = nn.LayerNorm(embed_dim) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map fields of shape (batch, in_chans, *img_size) to (batch, *grid, embed_dim)."""
        # A convolution whose stride is its kernel is one matrix product of the patches.
        patches = split_patches(pad_grid(x, self.pads, channels_last=False), self.patch_size)
        vectors = functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        output: Tensor = self.norm(vectors)
        return output


class PatchRecovery(nn.Module):
    """Patch recovery of 2D or 3D fields, by a transposed convolution and a crop.

    Parameters
    ----------
    img_size
        Size of the fields along their two or three axes.
    patch_size
        Size of a patch.
    in_chans
        Number of channels of the grid.
    out_chans
        Number of channels of the fields.

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
        self.pads = centered_pads(img_size, patch_size)
        self.grid = patch_grid(img_size, patch_size)
        convolution = _TRANSPOSED[len(self.patch_size)]
        self.conv = convolution(in_chans, out_chans, self.patch_size, stride=self.patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *grid, in_chans) to fields (batch, out_chans, *img_size)."""
        patches = functional.linear(x, self.conv.weight.flatten(1).t())
        fields = join_patches(patches, self.patch_size)
        fields = fields + self.conv.bias.view(-1, *[1] * len(self.patch_size))
        return crop_grid(fields, self.pads, channels_last=False)


class DownSample(nn.Module):
    """Patch merging: half the resolution in latitude and longitude, twice the channels.

    Parameters
    ----------
    dim
        Number of channels of the input.
    grid
        Its size, (level,) latitude and longitude; odd sizes are padded.
    """

    def __init__(self, dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = centered_pads(grid, _FACTORS[-len(grid) :])
        self.linear = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *grid, dim) to (batch, *coarser grid, 2 * dim)."""
        x = pad_grid(x, self.pads)
        x = x.unflatten(-2, (-1, 2)).unflatten(-4, (-1, 2))  # (..., lat, 2, lon, 2, channels)
        x = x.transpose(-4, -3).flatten(-3)
        output: Tensor = self.linear(self.norm(x))
        return output


class UpSample(nn.Module):
    """Reverse of :class:`DownSample`: twice the resolution, half the channels.

    Parameters
    ----------
    dim
        Number of channels of the output.
    grid
        Its size, (level,) latitude and longitude.
    """

    def __init__(self, dim: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.pads = centered_pads(grid, _FACTORS[-len(grid) :])
        self.linear1 = nn.Linear(2 * dim, 4 * dim, bias=False)
        self.linear2 = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map grids of shape (batch, *coarser grid, 2 * dim) to (batch, *grid, dim)."""
        x = self.linear1(x).unflatten(-1, (2, 2, -1)).transpose(-4, -3)
        x = x.flatten(-3, -2).flatten(-4, -3)
        output: Tensor = self.linear2(self.norm(crop_grid(x, self.pads)))
        return output


def coarser(grid: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a grid after :class:`DownSample`."""
    factors = _FACTORS[-len(grid) :]
    return tuple(-(-size // factor) for size, factor in zip(grid, factors, strict=True))


def patch_grid(img_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Return the number of patches along each axis, rounded up."""
    return tuple(-(-size // patch) for size, patch in zip(img_size, patch_size, strict=True))


def split_patches(fields: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Partition fields of shape (batch, channels, *size) into patches.

    Returns
    -------
    Patches of shape (batch, *grid, channels * points).
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
