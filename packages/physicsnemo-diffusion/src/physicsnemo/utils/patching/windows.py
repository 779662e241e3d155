# SPDX-License-Identifier: Apache-2.0
"""Patching at random places."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from physicsnemo.utils.patching.base import BasePatching2D
from physicsnemo.utils.patching.images import in_batch


class RandomPatching2D(BasePatching2D):
    """Patches at random places, each within the image, and the same for all images of a batch.

    The places are drawn when it is made, and again by :meth:`reset_patch_indices`.

    Parameters
    ----------
    img_shape
        Height and width of the images.
    patch_shape
        Height and width of the patches, cropped to those of the images with a warning.
    patch_num
        Number of patches of each image.
    generator
        Random generator: by default Python's ``random``, which ``torch.manual_seed``
        does not seed.

    Raises
    ------
    ValueError
        If a shape has other than two sizes, or there is less than one patch.

    References
    ----------
    Mardani et al. 2023, arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.patching import RandomPatching2D
    >>> generator = torch.Generator().manual_seed(0)
    >>> patching = RandomPatching2D((16, 20), (8, 8), patch_num=4, generator=generator)
    >>> patching.apply(torch.randn(3, 1, 16, 20)).shape
    torch.Size([12, 1, 8, 8])
    """

    def __init__(
        self,
        img_shape: Sequence[int],
        patch_shape: Sequence[int],
        patch_num: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(img_shape, patch_shape)
        self.generator = generator
        self.set_patch_num(patch_num)

    @property
    def patch_num(self) -> int:
        """Number of patches of each image."""
        return len(self._corners)

    @property
    def patch_indices(self) -> list[tuple[int, int]]:
        """Row and column of the first pixel of each patch."""
        return [(row, column) for row, column in self._corners.tolist()]

    def get_patch_indices(self) -> list[tuple[int, int]]:
        """Return row and column of the first pixel of each patch."""
        return self.patch_indices

    def set_patch_num(self, value: int) -> None:
        """Choose another number of patches, and draw new places."""
        if value < 1:
            raise ValueError(f"expected a patch_num of at least 1, got {value}")
        self._corners = self._draw(value)
        self._copies: dict[torch.device, Tensor] = {}

    def reset_patch_indices(self) -> None:
        """Draw new places.

        They are written to the tensors in use, so that a recorded CUDA graph takes them too.
        """
        self._corners.copy_(self._draw(self.patch_num))
        for copied in self._copies.values():
            copied.copy_(self._corners)

    def apply(self, input: Tensor, additional_input: Tensor | None = None) -> Tensor:
        """Extract patches from images, as :meth:`BasePatching2D.apply` describes."""
        self.check(input)
        rows, columns = (
            corner[:, None] + torch.arange(size, device=input.device)
            for corner, size in zip(self._corners_on(input.device).T, self.patch_shape, strict=True)
        )
        patches = input[:, :, rows[:, :, None], columns[:, None, :]].permute(2, 0, 1, 3, 4)
        return in_batch(patches, input, self.resized(additional_input))

    def _draw(self, number: int) -> Tensor:
        """Return the first row and column of patches, of shape (number, 2)."""
        last = [size - patch for size, patch in zip(self.img_shape, self.patch_shape, strict=True)]
        if self.generator is None:
            return torch.tensor([[random.randint(0, end) for end in last] for _ in range(number)])
        device = self.generator.device
        drawn = torch.rand(number, 2, generator=self.generator, device=device, dtype=torch.float64)
        return (drawn.cpu() * (torch.tensor(last) + 1)).long()

    def _corners_on(self, device: torch.device) -> Tensor:
        if device.type == "cpu":
            return self._corners
        if device not in self._copies:
            self._copies[device] = self._corners.to(device)
        return self._copies[device]
