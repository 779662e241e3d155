# SPDX-License-Identifier: Apache-2.0
"""Checks of what a sampler is given, before anything is computed."""

from typing import Any

import torch
from torch import Tensor

from physicsnemo.nn.checks import check_dense, is_integer
from physicsnemo.utils.patching import GridPatching2D

STATE_TYPES = (torch.float32, torch.float64)


def check_numbers(num_steps: int, **positive: float) -> None:
    """Raise an error if there is not even one step, or if an option is no number above 0."""
    if not is_integer(num_steps) or num_steps < 1:
        raise ValueError(
            f"expected num_steps to be a whole number of at least 1, got {num_steps!r}"
        )
    for name, value in positive.items():
        check_number(name, value)
        if not value > 0:
            raise ValueError(f"expected {name} to be above 0, got {value}")


def check_fractions(**values: float) -> None:
    """Raise an error if an option is no number above 0 and at most 1."""
    for name, value in values.items():
        check_number(name, value)
        if not 0 < value <= 1:
            raise ValueError(f"expected {name} to be above 0 and at most 1, got {value}")


def check_churn(churn: float, s_min: float, s_max: float, s_noise: float) -> None:
    """Raise an error unless the options of churn are not negative and in order."""
    for name, value in {
        "S_churn": churn,
        "S_min": s_min,
        "S_max": s_max,
        "S_noise": s_noise,
    }.items():
        check_number(name, value)
    if not (churn >= 0 and s_noise >= 0 and 0 <= s_min <= s_max):
        raise ValueError(
            f"expected S_churn, S_noise and S_min of at least 0 and S_max of at least S_min, got "
            f"S_churn={churn}, S_noise={s_noise}, S_min={s_min} and S_max={s_max}"
        )


def check_latents(latents: Tensor) -> None:
    """Raise an error unless samples can be computed from these latents."""
    check_dense("latents", latents)
    if not latents.is_floating_point():
        raise TypeError(f"expected latents of floating-point numbers, got {latents.dtype}")
    if latents.ndim < 2:
        raise ValueError(
            f"expected latents of shape (batch, channels, ...), got {tuple(latents.shape)}"
        )


def check_state_type(dtype: torch.dtype) -> None:
    """Raise an error unless a state can be of this type."""
    if dtype not in STATE_TYPES:
        raise ValueError(
            f"expected dtype to be torch.float32 or torch.float64, got {dtype}; the net may still "
            f"run in half precision under torch.autocast"
        )


def conditioning_image(
    latents: Tensor, img_lr: Tensor | None, mean_hr: Tensor | None
) -> Tensor | None:
    """Return the images that a net is conditioned on as one, the mean first.

    Raises
    ------
    ValueError
        If one is not of the shape of the latents, channels aside.
    """
    batch, grid = len(latents), latents.shape[2:]
    if mean_hr is not None:
        _check_image("mean_hr", mean_hr, {1, batch}, grid)
        mean_hr = mean_hr.expand(batch, *mean_hr.shape[1:])
    if img_lr is not None:
        _check_image("img_lr", img_lr, {batch}, grid)
    images = [image for image in (mean_hr, img_lr) if image is not None]
    return torch.cat(images, dim=1) if images else None


def check_labels(class_labels: Tensor | None, batch: int) -> None:
    """Raise an error unless there is a label for each sample."""
    if class_labels is None:
        return
    check_dense("class_labels", class_labels)
    if class_labels.ndim == 0 or len(class_labels) != batch:
        raise ValueError(
            f"expected class_labels for each of {batch} latents, got {tuple(class_labels.shape)}"
        )


def check_patching(patching: object, latents: Tensor) -> None:
    """Raise an error unless the latents can be cut into patches and joined again."""
    if patching is None:
        return
    if not isinstance(patching, GridPatching2D):
        raise ValueError(
            f"expected patching to be a GridPatching2D, got a {type(patching).__name__}; only "
            f"patches that cover the image can be joined to one"
        )
    if latents.ndim != 4 or tuple(latents.shape[2:]) != tuple(patching.img_shape):
        raise ValueError(
            f"expected latents of shape (batch, channels, height, width) with the height and "
            f"width {tuple(patching.img_shape)} of patching, got {tuple(latents.shape)}"
        )


def check_number(name: str, value: Any) -> None:
    """Raise an error if an option is no real number."""
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise TypeError(f"expected {name} to be a number, got {value!r}")


def _check_image(name: str, image: Tensor, batches: set[int], grid: torch.Size) -> None:
    check_dense(name, image)
    if image.is_complex():
        raise TypeError(f"expected {name} of real numbers, got {image.dtype}")
    if image.ndim < 2 or len(image) not in batches or image.shape[2:] != grid:
        batch = " or ".join(map(str, sorted(batches)))
        raise ValueError(
            f"expected {name} of shape ({batch}, channels, {', '.join(map(str, grid))}), as the "
            f"latents are, got {tuple(image.shape)}; resize it, or repeat it for each sample"
        )
