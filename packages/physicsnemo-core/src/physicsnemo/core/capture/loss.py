# SPDX-License-Identifier: Apache-2.0
"""The loss among what a training step returns."""

from typing import Any

from torch import Tensor


def find_loss(result: Any) -> Tensor:
    """Return the loss: the result, its attribute or item ``loss``, or else its first item.

    Raises
    ------
    ValueError
        If that is not one number with a gradient.
    """
    loss = result
    while not isinstance(loss, Tensor):
        if hasattr(loss, "loss"):
            loss = loss.loss
        elif isinstance(loss, dict) and "loss" in loss:
            loss = loss["loss"]
        elif isinstance(loss, tuple | list) and loss:
            loss = loss[0]
        else:
            break
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
        return loss
    got = type(loss).__name__
    if isinstance(loss, Tensor):
        got = f"a tensor of shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
    raise ValueError(
        f"a training step must return the loss, one number with gradient, alone, first in a tuple "
        f"or list, or called 'loss'; got {got}"
    )
