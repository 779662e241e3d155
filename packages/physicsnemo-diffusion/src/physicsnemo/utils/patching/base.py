# SPDX-License-Identifier: Apache-2.0
"""The base of all patchings."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from physicsnemo.utils.patching.images import check_images


class BasePatching2D(ABC):
    """Patching: a way to extract patches from images.

    Parameters
    ----------
    img_shape
        Height and width of the images.
    patch_shape
        Height and width of the patches, cropped to those of the images with a warning.

    Attributes
    ----------
    img_shape, patch_shape
        Height and width of images and patches.

    Raises
    ------
    ValueError
        If a shape has other than two sizes, or one below 1.
    """

    def __init__(self, img_shape: Sequence[int], patch_shape: Sequence[int]) -> None:
        self.img_shape = _shape(img_shape, "img_shape")
        wanted = _shape(patch_shape, "patch_shape")
        self.patch_shape = (min(wanted[0], self.img_shape[0]), min(wanted[1], self.img_shape[1]))
        if self.patch_shape != wanted:
            warnings.warn(
                f"patches of shape {wanted} are larger than images of shape {self.img_shape}; "
                f"they are cut to {self.patch_shape}",
                stacklevel=3,
            )

    @property
    @abstractmethod
    def patch_num(self) -> int:
        """Number of patches of each image."""

    @abstractmethod
    def apply(self, input: Tensor, additional_input: Tensor | None = None) -> Tensor:
        """Extract patches from images.

        Parameters
        ----------
        input
            Images of shape (batch, channels, height, width).
        additional_input
            Global images, shown as a whole to every patch as further channels, of shape (batch or
            1, more channels, any height, any width): they are resized to the shape of a patch
            (bilinear, without aligned corners).

        Returns
        -------
        Patches of shape (patch_num * batch, channels, patch height, patch width), the index of the
        image running fastest.

        Raises
        ------
        ValueError
            If the images have another shape than ``img_shape``, or the batches do not fit.
        """

    def fuse(self, input: Tensor, batch_size: int) -> Tensor:
        """Fuse patches to images, where there is a way to do so."""
        raise NotImplementedError(
            f"the patches of {type(self).__name__} need not cover the image, so that they cannot "
            "be put together; GridPatching2D can"
        )

    def global_index(self, batch_size: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return the indices in the image of the patches' pixels.

        Parameters
        ----------
        batch_size
            No effect: patches are at the same places in all images.
        device
            Device of the result.

        Returns
        -------
        Row and column of each pixel, int64, of shape (patch_num, 2, patch height, patch width).
        """
        axes = [torch.arange(size, device=device) for size in self.img_shape]
        return self.apply(torch.stack(torch.meshgrid(*axes, indexing="ij"))[None])

    def check(self, images: Tensor) -> None:
        """Raise an error unless these are images that patches can be extracted from."""
        check_images(images)
        if tuple(images.shape[-2:]) != self.img_shape:
            raise ValueError(
                f"expected images of height and width {self.img_shape}, got "
                f"{tuple(images.shape[-2:])}; img_shape of the patching fixes it"
            )

    def resized(self, images: Tensor | None) -> Tensor | None:
        """Return images resized to the shape of a patch."""
        if images is None:
            return None
        check_images(images)
        return functional.interpolate(images, self.patch_shape, mode="bilinear")


def _shape(given: Any, name: str) -> tuple[int, int]:
    sizes = tuple(given)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"expected {name} to be a height and a width of at least 1, got {given}")
    return sizes
