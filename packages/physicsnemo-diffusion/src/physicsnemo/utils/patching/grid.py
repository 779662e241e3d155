# SPDX-License-Identifier: Apache-2.0
"""Patching on a regular grid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from physicsnemo.utils.patching._tiling import Tiling
from physicsnemo.utils.patching.base import BasePatching2D
from physicsnemo.utils.patching.images import image_batching, image_fuse, overlap_counts


class GridPatching2D(BasePatching2D):
    """Patches on a regular grid that covers the image.

    The first patch begins ``boundary_pix`` pixels above and to the left of the image, each next one
    ``patch_shape - overlap_pix - boundary_pix`` pixels after the last. Outside, patches show the
    image reflected.

    Parameters
    ----------
    img_shape
        Height and width of the images.
    patch_shape
        Height and width of the patches, cropped to those of the images with a warning.
    overlap_pix
        Overlap: pixels that neighboring patches share.
    boundary_pix
        Boundary: more pixels that they share, and that the first patches show outside the image.

    Raises
    ------
    ValueError
        If a shape has other than two sizes, or patches are too small for what they share.

    References
    ----------
    Mardani et al. 2023, arXiv:2309.15214, and for patches with overlap, Bar-Tal et al. 2023,
    "MultiDiffusion", arXiv:2302.08113.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.patching import GridPatching2D
    >>> patching = GridPatching2D(img_shape=(16, 20), patch_shape=(8, 8), overlap_pix=2)
    >>> images = torch.randn(3, 1, 16, 20)
    >>> patches = patching.apply(images)
    >>> patching.patch_num, patches.shape
    (12, torch.Size([36, 1, 8, 8]))
    >>> torch.allclose(patching.fuse(patches, batch_size=3), images)
    True
    """

    def __init__(
        self,
        img_shape: Sequence[int],
        patch_shape: Sequence[int],
        overlap_pix: int = 0,
        boundary_pix: int = 0,
    ) -> None:
        super().__init__(img_shape, patch_shape)
        self.overlap_pix = overlap_pix
        self.boundary_pix = boundary_pix
        rows, columns = _tilings(
            patch_shape=self.patch_shape,
            img_shape=self.img_shape,
            overlap_pix=overlap_pix,
            boundary_pix=boundary_pix,
        )
        self._patch_num = rows.number * columns.number

    @property
    def patch_num(self) -> int:
        """Number of patches of each image."""
        return self._patch_num

    def apply(self, input: Tensor, additional_input: Tensor | None = None) -> Tensor:
        """Extract patches from images, as :meth:`BasePatching2D.apply` describes.

        The rows of the grid run faster than its columns.
        """
        self.check(input)
        height, width = self.patch_shape
        return image_batching(
            input,
            patch_shape_y=height,
            patch_shape_x=width,
            overlap_pix=self.overlap_pix,
            boundary_pix=self.boundary_pix,
            input_interp=self.resized(additional_input),
        )

    def fuse(self, input: Tensor, batch_size: int) -> Tensor:
        """Fuse patches to images; where they overlap, take their mean.

        Parameters
        ----------
        input
            Patches of shape (patch_num * batch_size, channels, patch height, patch width), in the
            order of :meth:`apply`.
        batch_size
            Number of images.

        Returns
        -------
        Images of shape (batch_size, channels, height, width).

        Raises
        ------
        ValueError
            If the number of patches or their shape is another.
        """
        if tuple(input.shape[2:]) != self.patch_shape:
            raise ValueError(
                f"expected patches of shape (patches, channels, {self.patch_shape[0]}, "
                f"{self.patch_shape[1]}), got {tuple(input.shape)}"
            )
        height, width = self.img_shape
        return image_fuse(
            input,
            img_shape_y=height,
            img_shape_x=width,
            batch_size=batch_size,
            overlap_pix=self.overlap_pix,
            boundary_pix=self.boundary_pix,
        )

    @staticmethod
    def get_overlap_count(
        patch_shape: Sequence[int], img_shape: Sequence[int], overlap_pix: int, boundary_pix: int
    ) -> Tensor:
        """Return the overlap count: the number of patches at each pixel.

        Parameters
        ----------
        patch_shape, img_shape, overlap_pix, boundary_pix
            As of the class.

        Returns
        -------
        Counts in float32, of shape (1, 1, padded height, padded width). The image begins at the
        pixel ``boundary_pix`` of each axis; the rest is what patches show outside of it.
        """
        rows, columns = _tilings(
            patch_shape=patch_shape,
            img_shape=img_shape,
            overlap_pix=overlap_pix,
            boundary_pix=boundary_pix,
        )
        return overlap_counts(rows, columns, torch.device("cpu"))


def _tilings(
    patch_shape: Sequence[int], img_shape: Sequence[int], overlap_pix: int, boundary_pix: int
) -> tuple[Tiling, Tiling]:
    rows, columns = (
        Tiling(size=size, patch=patch, overlap=overlap_pix, boundary=boundary_pix)
        for size, patch in zip(img_shape, patch_shape, strict=True)
    )
    return rows, columns
