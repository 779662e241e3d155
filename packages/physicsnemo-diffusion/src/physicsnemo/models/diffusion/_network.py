# SPDX-License-Identifier: Apache-2.0
"""What wrappers share: building the network, its precision, and conditioning by concatenation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution, numbers_of
from physicsnemo.models.diffusion.dhariwal_unet import DhariwalUNet
from physicsnemo.models.diffusion.song_unet import SongUNet, SongUNetPosEmbd, SongUNetPosLtEmbd
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import check_choice, check_input
from physicsnemo.nn.precision import at_least_float32

_CLASSES: tuple[type[Module], ...] = (SongUNetPosEmbd, SongUNetPosLtEmbd, SongUNet, DhariwalUNet)
_NETWORKS: dict[str, Callable[..., Module]] = {found.__name__: found for found in _CLASSES}
OVERRIDABLE = set[str]().union(*(found._overridable_args for found in _CLASSES))
"""Arguments of the networks that :meth:`Module.from_checkpoint` may replace."""
NETWORK_HISTORY = tuple(dict.fromkeys(it for found in _CLASSES for it in found._argument_history))
"""How the arguments of the networks differ from release to release."""


def build_network(
    model_type: str,
    img_resolution: Resolution,
    in_channels: int,
    out_channels: int,
    numerics: str,
    **model_kwargs: Any,
) -> Module:
    """Return a network by the name of its class.

    Raises
    ------
    ValueError
        If there is no network of that name, or it refuses the arguments.
    """
    check_choice("model_type", model_type, _NETWORKS)
    return _NETWORKS[model_type](
        img_resolution=img_resolution,
        in_channels=in_channels,
        out_channels=out_channels,
        numerics=numerics,
        **model_kwargs,
    )


def wide_type(wrapper: Module) -> torch.dtype:
    """Return the type of all outside the network: float32, or that of the weights if wider."""
    return at_least_float32(wrapper.device_buffer.dtype)


def network_type(wrapper: Module, use_fp16: bool, force_fp32: bool) -> torch.dtype:
    """Return the type of the network's input: that of the weights, unless one is asked for.

    Float16 is for GPUs: elsewhere layers cast weights that are kept in it to single precision.
    ``force_fp32`` has them do so everywhere.
    """
    own = torch.float16 if use_fp16 else wrapper.device_buffer.dtype
    on_gpu = wrapper.device.type == "cuda"
    return wide_type(wrapper) if force_fp32 or (own == torch.float16 and not on_gpu) else own


def join(x: Tensor, condition: Tensor) -> Tensor:
    """Concatenate a condition to the channels of fields.

    Raises
    ------
    TypeError
        If the condition does not hold real numbers; truth values count as 0 and 1.
    ValueError
        If it is of another shape than (batch, channels, height, width) of the fields, but for the
        channels.
    """
    batch, _, height, width = x.shape
    layout = {"batch": batch, "channels": None, "height": height, "width": width}
    condition = numbers_of(condition)
    check_input(condition, layout, x, name="the condition", numbers="real")
    return torch.cat((x, condition.to(x.dtype)), dim=1)


def any_sigma(sigma: float | Sequence[float] | Tensor) -> Tensor:
    """Return noise levels as a tensor: most preconditioners know all of them.

    Parameters
    ----------
    sigma
        Noise levels, as a number, a sequence or a tensor.
    """
    return torch.as_tensor(sigma)


def _get_use_fp16(wrapper: Any) -> bool:
    """Whether the weights are in float16, and so the network's computation on a GPU.

    Setting it converts all weights; what float16 has rounded does not come back.
    """
    return wrapper.__dict__.get("_use_fp16", False)  # type: ignore[no-any-return]


def _set_use_fp16(wrapper: Any, value: bool) -> None:
    if value not in (True, False):
        raise ValueError(f"expected use_fp16 to be True or False, got {value!r}")
    # Setting what is set converts nothing, as the weights may be of another type, such as float64.
    if value != wrapper.use_fp16:
        wrapper.to(torch.float16 if value else torch.float32)
    wrapper.__dict__["_use_fp16"] = bool(value)


half_precision = property(_get_use_fp16, _set_use_fp16)
"""A property ``use_fp16`` that converts the weights when it is set."""


def of_network(name: str) -> property:
    """Return a property that stands for one of the wrapped network.

    Reading or setting it raises an AttributeError if the network has none of that name.
    """

    def get(wrapper: Any) -> Any:
        return getattr(wrapper.model, name)

    def set_(wrapper: Any, value: Any) -> None:
        get(wrapper)
        setattr(wrapper.model, name, value)

    return property(get, set_, doc=f"``{name}`` of the network.")
