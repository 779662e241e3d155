# SPDX-License-Identifier: Apache-2.0
"""Views: what a net is shown in a training step, images as a whole or patches of them."""

from typing import Any, Protocol

import torch
from torch import Tensor

from physicsnemo.nn.precision import at_least_float32
from physicsnemo.utils.diffusion._nets import (
    Net,
    RandnLike,
    conditioned,
    keywords_of,
    keywords_of_patches,
)
from physicsnemo.utils.patching import BasePatching2D


class Noise(Protocol):
    """Distribution and weight of noise levels."""

    def sigma(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into noise levels."""

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the weight of the square error at noise levels."""


class Views:
    """A batch of clean images as a net sees it, and what belongs to it.

    Parameters
    ----------
    images
        Clean images of shape (batch, channels, ...).
    patching
        How to cut images into patches; with None, they are shown as a whole.
    weights
        Factors of the square error, of a shape that broadcasts to that of the images.
    **labels
        Labels for the net, one for each image.

    Attributes
    ----------
    images
        The views, of shape (patches * batch, channels, ...), in single precision at least.

    Raises
    ------
    TypeError
        If the images do not hold floating-point numbers.
    ValueError
        If weights do not broadcast, or there is not a label for each image.
    """

    def __init__(
        self,
        images: Tensor,
        patching: BasePatching2D | None,
        weights: Tensor | None,
        **labels: Tensor | None,
    ) -> None:
        if not images.is_floating_point():
            raise TypeError(
                f"expected images of floating-point numbers, got {images.dtype}; convert them, "
                f"as in images.to({torch.get_default_dtype()})"
            )
        if images.ndim < 2:
            raise ValueError(
                f"expected images of shape (batch, channels, ...), got {tuple(images.shape)}"
            )
        for name, label in labels.items():
            if label is not None and label.shape[:1] != images.shape[:1]:
                raise ValueError(
                    f"expected {name} for each of {len(images)} images, got {tuple(label.shape)}"
                )
        self._shape = images.shape
        self._type = at_least_float32(images.dtype)
        self._patching = patching
        self._labels = labels
        self.images = self._cut(images)
        self._weights = None if weights is None else self._cut(_spread(weights, images.shape))

    def condition(self, image: Tensor | None, overview: Tensor | None) -> Tensor | None:
        """Return the views of a conditioning image, each patch with the whole of an overview.

        Raises
        ------
        ValueError
            If the image is not of the shape of the clean ones, channels aside.
        """
        if image is None:
            return None
        batch, _, *grid = self._shape
        if image.ndim < 2 or len(image) != batch or list(image.shape[2:]) != grid:
            raise ValueError(
                f"expected a conditioning image of shape ({batch}, channels, "
                f"{', '.join(map(str, grid))}), as the images are, got {tuple(image.shape)}; "
                "resize it, or repeat it for each sample"
            )
        return self._cut(image, overview)

    def denoising(
        self, noise: Noise, net: Net, condition: Tensor | None, randn_like: RandnLike
    ) -> Tensor:
        """Return the weighted mean square error of a denoiser of views in noise."""
        shape = self.images.shape[1:]
        sigma = noise.sigma(self._draw(randn_like)).reshape(-1, *[1] * len(shape))
        noisy = self.images + sigma * self._draw(randn_like, *shape)
        denoised = conditioned(net, condition, self.keywords(net))(noisy, sigma)
        return self._mean_square(denoised, noise.weight(sigma))

    def regression(self, net: Net, condition: Tensor | None) -> Tensor:
        """Return the weighted mean square error of a network that predicts the views."""
        return self._mean_square(self.predicted(net, condition))

    def predicted(self, net: Net, condition: Tensor | None) -> Tensor:
        """Return what a network predicts of a condition alone, with zeros in place of views."""
        return net(torch.zeros_like(self.images), condition, **self.keywords(net))

    def keywords(self, net: Net) -> dict[str, Any]:
        """Return the labels as keyword arguments of a net.

        Raises
        ------
        ValueError
            If the net takes no such argument.
        """
        keywords = keywords_of(net, **self._labels)
        if self._patching is None:
            return keywords
        return keywords_of_patches(net, keywords, self._patching, batch=self._shape[0])

    def _draw(self, randn_like: RandnLike, *shape: int) -> Tensor:
        """Return normal numbers of a shape for each view, drawn image by image."""
        # Views are patch-major, but the first axis that a generator sees must be that of images,
        # so that the patches of an image depend on its own seed alone.
        batch = self._shape[0]
        like = self.images.new_empty(batch, len(self.images) // batch, *shape)
        return randn_like(like).transpose(0, 1).flatten(0, 1)

    def _mean_square(self, estimate: Tensor, factor: Tensor | None = None) -> Tensor:
        if estimate.shape != self.images.shape:
            raise ValueError(
                f"expected the net to return images of shape {tuple(self.images.shape)}, got "
                f"{tuple(estimate.shape)}"
            )
        square = (estimate - self.images).square()
        for weights in (factor, self._weights):
            square = square if weights is None else square * weights
        return square.mean()

    def _cut(self, image: Tensor, overview: Tensor | None = None) -> Tensor:
        wide = image.to(self._type)
        return wide if self._patching is None else self._patching.apply(wide, overview)


def _spread(weights: Tensor, shape: torch.Size) -> Tensor:
    try:
        return weights.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"expected weights of a shape that broadcasts to {tuple(shape)}, that of the images, "
            f"got {tuple(weights.shape)}"
        ) from None
