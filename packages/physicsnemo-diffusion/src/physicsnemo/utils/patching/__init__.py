# SPDX-License-Identifier: Apache-2.0
"""Patches of images, so that a model for small images can work on a large one.

:class:`GridPatching2D` extracts patches on a regular grid that covers the image, and fuses them to
an image again: for sampling, and for training on all of an image. :class:`RandomPatching2D`
extracts patches at random places: for training. Both work on batches. A batch of patches is
*patch-major*: first come the first patches of all images, then their second patches, and so on.

All is differentiable, takes tensors of any type, on any device, and compiles without graph breaks.
"""

from physicsnemo.utils.patching.base import BasePatching2D
from physicsnemo.utils.patching.grid import GridPatching2D
from physicsnemo.utils.patching.images import image_batching, image_fuse
from physicsnemo.utils.patching.windows import RandomPatching2D

__all__ = [
    "BasePatching2D",
    "GridPatching2D",
    "RandomPatching2D",
    "image_batching",
    "image_fuse",
]
