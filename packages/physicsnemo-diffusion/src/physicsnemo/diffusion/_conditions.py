# SPDX-License-Identifier: Apache-2.0
"""Conditions, tensors or mappings of tensors, and how networks are given them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

Condition = Tensor | Mapping[str, Tensor] | None


def each_tensor(condition: Condition, function: Callable[[str, Tensor], Tensor]) -> Condition:
    """Return a condition with each tensor replaced; one that stands alone is called ``image``."""
    if condition is None:
        return None
    if isinstance(condition, Tensor):
        return function("image", condition)
    return {name: function(name, tensor) for name, tensor in condition.items()}


def of_batch(condition: Condition, batch: int) -> Condition:
    """Return a condition for each sample of a batch, where one for all is repeated.

    Raises
    ------
    ValueError
        If it is for another number of samples.
    """

    def expanded(name: str, tensor: Tensor) -> Tensor:
        # The batch comes first: compared with 1, the size of an exported program would be fixed.
        if tensor.ndim == 0 or tensor.shape[0] not in (batch, 1):
            raise ValueError(
                f"expected the condition {name!r} for each of {batch} samples, or one for all, "
                f"got a tensor of shape {tuple(tensor.shape)}"
            )
        return tensor.expand(batch, *tensor.shape[1:])

    return each_tensor(condition, expanded)


def call(network: nn.Module, x: Tensor, label: Tensor, condition: Condition) -> Tensor:
    """Call a network, as its parameters' names tell.

    - With a parameter ``condition``: ``network(x, label, condition=condition)``, as it is.
    - With ``noise_labels``, as the U-Nets: the condition's image is concatenated to the channels,
      and its vector is passed as ``class_labels``.
    - Otherwise it knows fields alone, as FNO: the label is one more channel, then the image.

    A tensor of as many axes as ``x`` is an image, one of two is a vector; a mapping has them by
    the names ``image`` and ``vector``, and what else the network takes by the parameter's name.

    Raises
    ------
    ValueError
        If the network does not take a part of the condition, or an image is of another grid.
    """
    parameters = inspect.signature(network.forward).parameters
    if "condition" in parameters:
        given = {} if condition is None else {"condition": condition}
        return cast(Tensor, network(x, label, **given))
    keywords: dict[str, Any] = {}
    if condition is not None:
        keywords = dict(_named(condition, x).items())
    fields = [x]
    arguments = []
    if "noise_labels" in parameters:
        arguments = [label]
        keywords["class_labels"] = keywords.pop("vector", None)
    else:
        fields.append(label.reshape(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:]))
    if (image := keywords.pop("image", None)) is not None:
        fields.append(checked_image(image, x))
    unknown = keywords.keys() - parameters.keys()
    if unknown:
        raise ValueError(
            f"{type(network).__name__} takes no {' and no '.join(sorted(unknown))} as a condition; "
            f"expected 'image', 'vector' for networks with labels, or one of its parameters, "
            f"{', '.join(parameters)}"
        )
    return cast(Tensor, network(torch.cat(fields, dim=1), *arguments, **keywords))


def _named(condition: Tensor | Mapping[str, Tensor], x: Tensor) -> Mapping[str, Tensor]:
    if not isinstance(condition, Tensor):
        return condition
    return {"vector" if condition.ndim == 2 and x.ndim > 2 else "image": condition}


def checked_image(image: Tensor, x: Tensor) -> Tensor:
    """Return an image of the type of fields, or raise a ValueError if it is of another grid."""
    if image.ndim != x.ndim or image.shape[2:] != x.shape[2:]:
        raise ValueError(
            f"expected an image as condition of shape (batch, channels, "
            f"{', '.join(map(str, x.shape[2:]))}), got {tuple(image.shape)}; resize it"
        )
    return image.to(x.dtype)
