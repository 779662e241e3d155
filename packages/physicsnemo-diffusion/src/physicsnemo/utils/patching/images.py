# SPDX-License-Identifier: Apache-2.0
"""Extraction of patches on a regular grid, and their fusion."""

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.nn.precision import at_least_float32
from physicsnemo.utils.patching._tiling import Tiling


def image_batching(
    input: Tensor,
    patch_shape_y: int,
    patch_shape_x: int,
    overlap_pix: int,
    boundary_pix: int,
    input_interp: Tensor | None = None,
) -> Tensor:
    """Extract patches on a regular grid that covers the images.

    The first patch begins ``boundary_pix`` pixels above and to the left of the image, each next one
    ``patch_shape - overlap_pix - boundary_pix`` pixels after the last. Outside, patches show the
    image reflected.

    Parameters
    ----------
    input
        Images of any type, of shape (batch, channels, height, width).
    patch_shape_y, patch_shape_x
        Height and width of a patch.
    overlap_pix
        Overlap: pixels that neighboring patches share.
    boundary_pix
        Boundary: more pixels that they share, and that the first patches show outside the image.
    input_interp
        Further channels, the same for all patches of an image, of shape
        (batch, more channels, patch_shape_y, patch_shape_x); a batch of one serves all images.

    Returns
    -------
    Patches of shape (patches * batch, channels, patch_shape_y, patch_shape_x). The index of the
    image runs fastest, then the row of the patch, then its column.

    Raises
    ------
    ValueError
        If an argument has a shape that does not fit, or patches are too small for what they share.
    """
    check_images(input)
    rows = Tiling(
        size=input.shape[-2], patch=patch_shape_y, overlap=overlap_pix, boundary=boundary_pix
    )
    columns = Tiling(
        size=input.shape[-1], patch=patch_shape_x, overlap=overlap_pix, boundary=boundary_pix
    )
    padded = _pad(_pad(input, rows, -2), columns, -1)
    # Views of (batch, channels, rows, columns, height, width), made patch-major by one copy.
    tiles = padded.unfold(2, rows.patch, rows.stride).unfold(3, columns.patch, columns.stride)
    patches = tiles.permute(3, 2, 0, 1, 4, 5).flatten(0, 1)
    return in_batch(patches, input, input_interp)


def image_fuse(
    input: Tensor,
    img_shape_y: int,
    img_shape_x: int,
    batch_size: int,
    overlap_pix: int,
    boundary_pix: int,
    overlap_count: Tensor | None = None,
) -> Tensor:
    """Fuse patches to images: the inverse of :func:`image_batching`.

    Where patches overlap, the image is their mean, boundaries included.

    Parameters
    ----------
    input
        Patches of shape (patches * batch_size, channels, patch height, patch width), in the order
        of :func:`image_batching`.
    img_shape_y, img_shape_x
        Height and width of the image.
    batch_size
        Number of images.
    overlap_pix, boundary_pix
        Overlap and boundary, as the patches were extracted.
    overlap_count
        Number of patches at each pixel, by default that of
        :meth:`GridPatching2D.get_overlap_count`.

    Returns
    -------
    Images of shape (batch_size, channels, img_shape_y, img_shape_x), of the type of the patches;
    of integers, in float32.

    Raises
    ------
    ValueError
        If the number of patches is another, or an argument has a shape that does not fit.
    """
    check_images(input)
    rows = Tiling(
        size=img_shape_y, patch=input.shape[-2], overlap=overlap_pix, boundary=boundary_pix
    )
    columns = Tiling(
        size=img_shape_x, patch=input.shape[-1], overlap=overlap_pix, boundary=boundary_pix
    )
    if input.shape[0] != columns.number * rows.number * batch_size:
        raise ValueError(
            f"expected {columns.number * rows.number} patches for each of {batch_size} images of "
            f"shape {(img_shape_y, img_shape_x)}, got {input.shape[0]} patches of shape "
            f"{tuple(input.shape[-2:])}; give batch_size, overlap and boundary as they were cut"
        )
    if overlap_count is None:
        overlap_count = overlap_counts(rows, columns, input.device)
    within = (
        ...,
        slice(boundary_pix, boundary_pix + img_shape_y),
        slice(boundary_pix, boundary_pix + img_shape_x),
    )
    mean = (
        _add_up(input, rows=rows, columns=columns, batch=batch_size)[within] / overlap_count[within]
    )
    return mean.to(input.dtype) if input.is_floating_point() else mean


def check_images(images: Tensor) -> None:
    """Raise an error unless a tensor holds a batch of images."""
    if images.ndim != 4:
        raise ValueError(
            f"expected images of shape (batch, channels, height, width), got {tuple(images.shape)}"
        )


def overlap_counts(rows: Tiling, columns: Tiling, device: torch.device) -> Tensor:
    """Return the number of patches at each pixel, in float32: (1, 1, height, width).

    It includes the reflected pixels, and below and to the right as many as there are of the
    boundary, which no patch covers.
    """
    counts = torch.outer(rows.counts(device), columns.counts(device))
    return functional.pad(counts, (0, columns.boundary, 0, rows.boundary))[None, None]


def in_batch(patches: Tensor, images: Tensor, extra: Tensor | None) -> Tensor:
    """Append channels to patches of images, and put all into one batch.

    Parameters
    ----------
    patches
        Of shape (patches, batch, channels, height, width).
    images
        Images that they were extracted from.
    extra
        Channels for all patches of an image, of shape (batch or 1, more channels, height, width).
    """
    number, batch, _, height, width = patches.shape
    if extra is not None:
        check_images(extra)
        if extra.shape[0] not in (1, batch) or extra.shape[2:] != patches.shape[3:]:
            raise ValueError(
                f"expected additional channels of shape ({batch}, channels, {height}, {width}), "
                f"got {tuple(extra.shape)}; its batch may also be 1"
            )
        patches = torch.cat((patches, extra.expand(number, batch, -1, -1, -1)), dim=2)
    together = patches.flatten(0, 1)
    if images.is_contiguous():
        return together.contiguous()
    if images.is_contiguous(memory_format=torch.channels_last):
        return together.contiguous(memory_format=torch.channels_last)
    return together


def _pad(images: Tensor, tiling: Tiling, dimension: int) -> Tensor:
    if tiling.boundary == 0 and tiling.end == tiling.size:
        return images
    # Unlike torch's padding by reflection, this takes all types and widths.
    return images.index_select(dimension, tiling.sources(images.device))


def _add_up(patches: Tensor, rows: Tiling, columns: Tiling, batch: int) -> Tensor:
    """Return the sum of patches at each pixel: (batch, channels, rows.end, columns.end)."""
    # fold adds up blocks of (batch, channels * height * width, rows * columns).
    grid = patches.unflatten(0, (columns.number, rows.number, batch))
    blocks = grid.permute(2, 3, 4, 5, 1, 0).flatten(4).flatten(1, 3)
    return functional.fold(
        blocks.to(at_least_float32(blocks.dtype)),
        (rows.end, columns.end),
        (rows.patch, columns.patch),
        stride=(rows.stride, columns.stride),
    )
