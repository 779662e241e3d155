# SPDX-License-Identifier: Apache-2.0
"""How samplers and losses call a net, as its parameters' names tell."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.utils import unwrap
from physicsnemo.utils.patching import BasePatching2D

Net = Callable[..., Tensor]
RandnLike = Callable[[Tensor], Tensor]


def conditioned(net: Net, image: Tensor | None, keywords: Mapping[str, Any]) -> Net:
    """Return a net as a function of the state and the noise level alone.

    It is called ``net(x, sigma, condition=image)`` if a parameter is named ``condition``,
    ``net(x, sigma)`` if the second is named ``sigma``, which is a net without a conditioning image,
    else ``net(x, image, sigma)``.

    Raises
    ------
    ValueError
        If there is a conditioning image, and the net takes none.
    """
    names = list(_parameters(net))
    if "condition" in names:
        return partial(net, condition=image, **keywords)
    if names[1:2] != ["sigma"]:
        return lambda x, sigma: net(x, image, sigma, **keywords)
    if image is not None:
        raise ValueError(
            f"the net takes no conditioning image: its parameters are {', '.join(names)}; leave "
            f"out img_lr and mean_hr, or name the net's parameter 'condition'"
        )
    return partial(net, **keywords)


def keywords_of(net: Net, **labels: Tensor | None) -> dict[str, Any]:
    """Return the labels that are not None, as keyword arguments of a net.

    Raises
    ------
    ValueError
        If the net takes no such argument.
    """
    given = {name: label for name, label in labels.items() if label is not None}
    unknown = [name for name in given if not accepts(net, name)]
    if unknown:
        raise ValueError(
            f"the net takes no {' and no '.join(unknown)}: its parameters are "
            f"{', '.join(_parameters(net))}"
        )
    return given


def keywords_of_patches(
    net: Net, keywords: Mapping[str, Any], patching: BasePatching2D, batch: int
) -> dict[str, Any]:
    """Return keyword arguments for all patches of a batch of images.

    Labels of an image are repeated for each patch, but for lead times: these choose among maps,
    which ``embedding_selector`` cuts for a net that takes it.
    """
    repeated = dict(keywords)
    for name in keywords.keys() - {"lead_time_label"}:
        # Patches are ordered by place first, then by image.
        repeated[name] = torch.cat([keywords[name]] * patching.patch_num)
    if accepts(net, "embedding_selector"):
        repeated["embedding_selector"] = partial(_cut, patching, batch)
    return repeated


def accepts(net: Net, name: str) -> bool:
    """Return whether a net takes a keyword argument."""
    parameters = _parameters(net)
    if name in parameters:
        return True
    if all(it.kind is not inspect.Parameter.VAR_KEYWORD for it in parameters.values()):
        return False
    # Preconditioners hand further arguments on to the model that they wrap.
    model = getattr(bare(net), "model", None)
    return accepts(model, name) if isinstance(model, nn.Module) else True


def bare(net: Net) -> Net:
    """Return a net without wrappers, such as those for data parallelism."""
    return unwrap(net) if isinstance(net, nn.Module) else net


def _cut(patching: BasePatching2D, batch: int, fields: Tensor) -> Tensor:
    """Cut fields (channels, height, width), or some for each image, as images are cut."""
    return patching.apply(fields.expand(batch, -1, -1, -1))


def _parameters(net: Net) -> Mapping[str, inspect.Parameter]:
    net = bare(net)
    # A module's own call takes any arguments.
    function = net.forward if isinstance(net, nn.Module) else net
    return inspect.signature(function).parameters
