# SPDX-License-Identifier: Apache-2.0
"""Checks of what networks and preconditioners are given."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from operator import index
from typing import Any

import torch
from torch import Tensor

from physicsnemo.nn.checks import check_dense, check_input, is_integer
from physicsnemo.nn.tracing import is_tracing, is_transformed

Resolution = int | Sequence[int]


def height_and_width(img_resolution: Resolution) -> tuple[int, int]:
    """Return height and width of images of a resolution.

    Raises
    ------
    ValueError
        If it is neither one whole number nor two.
    """
    if is_integer(img_resolution):
        return index(img_resolution), index(img_resolution)  # type: ignore[arg-type]
    sizes: list[Any] = [] if not isinstance(img_resolution, Iterable) else list(img_resolution)
    if len(sizes) != 2 or not all(map(is_integer, sizes)):
        raise ValueError(
            f"expected img_resolution to be one number, or height and width, got {img_resolution!r}"
        )
    return index(sizes[0]), index(sizes[1])


def check_images(
    x: Tensor,
    channels: int,
    levels: int,
    weight: Tensor,
    size: tuple[int, int] | None = None,
    taps: int = 2,
) -> None:
    """Raise an error unless a network can take these images.

    Parameters
    ----------
    x
        The images.
    channels
        How many channels they should have.
    levels
        Number of levels of the network.
    weight
        Any of its weights.
    size
        The height and width that they should have, if any.
    taps
        Length of the filter for doubling and halving the resolution: an odd one makes n pixels of
        2n - 1, and back.

    Raises
    ------
    TypeError
        If they are not floating-point numbers.
    ValueError
        If their shape or device is another one.
    """
    height, width = size or (None, None)
    layout = {"batch": None, "in_channels": channels, "height": height, "width": width}
    check_input(x, layout, weight, name="x", numbers="floating")
    factor, rest = 2 ** (levels - 1), taps % 2
    if not is_tracing() and ((x.shape[2] - rest) % factor or (x.shape[3] - rest) % factor):
        multiples = f"multiples of {factor}" + (" and one more" if rest else "")
        raise ValueError(
            f"expected height and width to be {multiples}, as {levels} levels halve them "
            f"{levels - 1} times, got {x.shape[2]} by {x.shape[3]}; pad the images, or shorten "
            f"channel_mult"
        )


def check_real(name: str, given: Any, beside: Tensor, *, or_on_cpu: bool = False) -> None:
    """Raise an error unless something is a dense tensor of real numbers.

    Parameters
    ----------
    name
        The argument.
    given
        What was given for it.
    beside
        A tensor on the device that it should be on.
    or_on_cpu
        Let it be on the CPU too, where its numbers are few, and are moved.

    Raises
    ------
    TypeError
        If it is no dense tensor, or holds complex numbers or truth values.
    ValueError
        If it is on another device.
    """
    check_dense(name, given, beside)
    if given.is_complex() or given.dtype == torch.bool:
        raise TypeError(
            f"expected {name} of real numbers, got {given.dtype}; convert them, as in "
            f"{name}{'.real' if given.is_complex() else '.float()'}"
        )
    if given.device != beside.device and not (or_on_cpu and given.device.type == "cpu"):
        raise ValueError(
            f"{name} is on {given.device} and the model on {beside.device}; move it, as in "
            f"{name}.to('{beside.device}')"
        )


def check_noise_levels(sigma: Any, x: Tensor, *, or_zero: bool = False) -> None:
    """Raise an error unless something can be the noise levels of a batch.

    Values are looked at where that is free: those of Python's numbers and of tensors on the CPU. On
    another device it would wait for all that was launched before; there, levels that are none make
    NaN of their samples, as NaN does.

    Parameters
    ----------
    sigma
        A number or a tensor.
    x
        The noisy fields.
    or_zero
        Whether a level may be 0.

    Raises
    ------
    TypeError
        If it is neither a real number nor a dense tensor of real numbers.
    ValueError
        If it is on a device that is neither that of the fields nor the CPU; if there is neither
        one level nor one for each sample; or if one is not finite and above 0.
    """
    if torch.compiler.is_compiling() or is_tracing():
        return
    if isinstance(sigma, Real) and not isinstance(sigma, bool):
        level = float(sigma)
        if not (0 < level < math.inf or (or_zero and level == 0)):
            raise ValueError(_no_level(sigma, or_zero))
        return
    check_real("sigma", sigma, x, or_on_cpu=True)
    if sigma.numel() not in (1, x.shape[0]):
        raise ValueError(
            f"expected sigma to have one value, or one for each of {x.shape[0]} samples, got shape "
            f"{tuple(sigma.shape)}"
        )
    if sigma.device.type != "cpu" or type(sigma) not in (Tensor, torch.nn.Parameter):
        return
    if is_transformed():  # as by vmap, which does not tell the numbers
        return
    wrong = ~(((sigma >= 0) if or_zero else (sigma > 0)) & sigma.isfinite())
    if wrong.any():
        raise ValueError(_no_level(sigma[wrong].flatten()[0].item(), or_zero))


def _no_level(given: Any, or_zero: bool) -> str:
    bound = "of at least 0" if or_zero else "above 0"
    return f"expected sigma, the noise level, to be a finite number {bound}, got {given}"


def check_noise_labels(noise_labels: Tensor, x: Tensor) -> None:
    """Raise an error unless there is a real number for the noise of each image, or one for all."""
    check_real("noise_labels", noise_labels, x, or_on_cpu=True)
    batch = x.shape[0]  # len would fix it in an exported program
    if not is_tracing() and tuple(noise_labels.shape) not in ((batch,), (1,)):
        raise ValueError(
            f"expected noise_labels of shape (batch={batch},) or (1,), got "
            f"{tuple(noise_labels.shape)}"
        )


def as_vectors(
    labels: Tensor | None, features: int, name: str, x: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return labels in the type of the embedding.

    Raises
    ------
    TypeError
        If there are none, or they are no tensor of real numbers; truth values count as 0 and 1.
    ValueError
        If their shape is not (batch, features) or (1, features), or their device another one.
    """
    if labels is None:
        raise TypeError(
            f"expected {name} of shape (batch={x.shape[0]}, {features}), got None; pass them, or "
            f"build the model without"
        )
    labels = numbers_of(labels)
    check_real(name, labels, x)
    shape = tuple(labels.shape)
    if not is_tracing() and (
        # The batch comes first: compared with 1, the size of an exported program would be fixed.
        len(shape) != 2 or shape[1] != features or shape[0] not in (x.shape[0], 1)
    ):
        raise ValueError(
            f"expected {name} of shape (batch={x.shape[0]}, {features}) or (1, {features}), got "
            f"{shape}"
        )
    return labels.to(dtype)


def numbers_of(given: Any) -> Any:
    """Return a tensor of truth values, such as a mask, as one of 0 and 1, and all else as it is."""
    is_mask = isinstance(given, Tensor) and given.dtype == torch.bool
    return given.to(torch.uint8) if is_mask else given


def dropped(labels: Tensor, probability: float, batch: int) -> Tensor:
    """Return labels after dropout of whole samples."""
    return labels * (torch.rand(batch, 1, device=labels.device) >= probability)
