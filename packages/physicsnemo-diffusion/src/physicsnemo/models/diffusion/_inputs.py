# SPDX-License-Identifier: Apache-2.0
"""What the networks are given: checks, and labels as vectors."""

import torch
from torch import Tensor

from physicsnemo.nn.checks import check_input


def check_images(
    x: Tensor, channels: int, levels: int, weight: Tensor, size: tuple[int, int] | None = None
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

    Raises
    ------
    TypeError
        If they are not floating-point numbers.
    ValueError
        If their shape or device is another one.
    """
    height, width = size or (None, None)
    layout = {"batch": None, "in_channels": channels, "height": height, "width": width}
    check_input(x, layout, weight, numbers="floating")
    factor = 2 ** (levels - 1)
    if not tracing() and (x.shape[2] % factor or x.shape[3] % factor):
        raise ValueError(
            f"expected height and width to be multiples of {factor}, as {levels} levels halve them "
            f"{levels - 1} times, got {x.shape[2]} by {x.shape[3]}; pad the images, or shorten "
            f"channel_mult"
        )


def check_noise_labels(noise_labels: Tensor, x: Tensor) -> None:
    """Raise a ValueError unless there is one noise level for each image, or one for all."""
    if not tracing() and tuple(noise_labels.shape) not in ((1,), (len(x),)):
        raise ValueError(
            f"expected noise_labels of shape (batch={len(x)},) or (1,), got "
            f"{tuple(noise_labels.shape)}"
        )


def as_vectors(
    labels: Tensor | None, features: int, name: str, x: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return labels in the type of the embedding.

    Raises
    ------
    TypeError
        If there are none.
    ValueError
        If their shape is not (batch, features) or (1, features).
    """
    if labels is None:
        raise TypeError(
            f"expected {name} of shape (batch={len(x)}, {features}), got None; pass them, or build "
            f"the model without"
        )
    shape = tuple(labels.shape)
    if not tracing() and (len(shape) != 2 or shape[1] != features or shape[0] not in (1, len(x))):
        raise ValueError(
            f"expected {name} of shape (batch={len(x)}, {features}) or (1, {features}), got {shape}"
        )
    return labels.to(dtype)


def dropped(labels: Tensor, probability: float, batch: int) -> Tensor:
    """Return labels of which those of a random choice of samples are zero."""
    return labels * (torch.rand(batch, 1, device=labels.device) >= probability)


def tracing() -> bool:
    """Tell whether a trace is being made: it drops comparisons of sizes, and warns of each."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
