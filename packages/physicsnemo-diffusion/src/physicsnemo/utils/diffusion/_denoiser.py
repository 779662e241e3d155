# SPDX-License-Identifier: Apache-2.0
"""A net with what it is conditioned on, as a function of the state and the noise level alone."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from physicsnemo.utils.diffusion._checks import (
    check_labels,
    check_number,
    check_patching,
    conditioning_image,
)
from physicsnemo.utils.diffusion._nets import (
    Net,
    bare,
    conditioned,
    keywords_of,
    keywords_of_patches,
)
from physicsnemo.utils.patching import GridPatching2D


class Denoiser:
    """Denoiser: a net on whole images, or patch by patch where there is a ``patching``.

    Parameters
    ----------
    net
        The net, called as :func:`~physicsnemo.utils.diffusion._nets.conditioned` says. Labels are
        passed to it by keyword, those that are None not at all.
    latents
        What sampling starts from, of shape (batch, channels, ...).
    img_lr, mean_hr
        Images that the net is conditioned on: both as one, the mean first. Of patches, each gets
        its part of it, and then the whole of ``img_lr`` resized to the shape of a patch.
    class_labels, lead_time_label
        Labels.
    patching
        How to cut images into patches, and how to join these.
    dtype
        Of the state. The net gets it in float32 where the latents have no more.
    """

    def __init__(
        self,
        net: Net,
        latents: Tensor,
        *,
        img_lr: Tensor | None,
        mean_hr: Tensor | None,
        class_labels: Tensor | None,
        lead_time_label: Tensor | None,
        patching: GridPatching2D | None,
        dtype: torch.dtype,
    ) -> None:
        check_patching(patching, latents)
        check_labels(class_labels, len(latents))
        image = conditioning_image(latents, img_lr, mean_hr)
        keywords = keywords_of(net, class_labels=class_labels, lead_time_label=lead_time_label)
        self._bare = bare(net)
        self._dtype = dtype if latents.dtype == torch.float64 else torch.float32
        self._patching, self._batch = patching, len(latents)
        if patching is not None:
            keywords = keywords_of_patches(net, keywords, patching=patching, batch=self._batch)
            image = image if image is None else patching.apply(image, additional_input=img_lr)
        self._net = conditioned(net, None if image is None else image.to(self._dtype), keywords)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the expectation of the clean image, of the shape of ``x``."""
        # Filled on the device, so that no copy waits for it.
        level = torch.full((), sigma, dtype=x.dtype, device=x.device)
        x = x.to(self._dtype)
        if self._patching is None:
            return self._evaluated(x, level)
        patches = self._evaluated(self._patching.apply(x), level)
        return self._patching.fuse(patches, batch_size=self._batch)

    def _evaluated(self, x: Tensor, level: Tensor) -> Tensor:
        denoised = self._net(x, level)
        if denoised.shape != x.shape:
            raise ValueError(
                f"expected the net to return a tensor of the shape of its first argument, "
                f"{tuple(x.shape)}, got {tuple(denoised.shape)}"
            )
        return denoised.to(self._dtype)

    def sigma_range(self, sigma_min: float, sigma_max: float) -> tuple[float, float]:
        """Return the part of a range of noise levels that is within the net's limits.

        Raises
        ------
        ValueError
            If there is none, or if it does not begin above 0.
        """
        for name, value in {"sigma_min": sigma_min, "sigma_max": sigma_max}.items():
            check_number(name, value)
        low = max(float(sigma_min), float(getattr(self._bare, "sigma_min", 0.0)))
        high = min(float(sigma_max), float(getattr(self._bare, "sigma_max", math.inf)))
        if not 0 < low < high < math.inf:
            raise ValueError(
                f"expected finite 0 < sigma_min < sigma_max, got sigma_min={sigma_min} and "
                f"sigma_max={sigma_max}, of which the net's own limits leave {low} to {high}"
            )
        return low, high

    def rounded(self, levels: Sequence[float]) -> list[float]:
        """Return the noise levels nearest to these that the net knows, by its ``round_sigma``."""
        # On the CPU, as reading them from another device would wait for it, which nothing that is
        # recorded as a CUDA graph may do.
        round_sigma = getattr(self._bare, "round_sigma", torch.as_tensor)
        return cast(Tensor, round_sigma(torch.tensor(levels, dtype=torch.float64))).tolist()
