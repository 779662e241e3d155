# SPDX-License-Identifier: Apache-2.0
"""Flags of a network that all its layers share."""

from torch import nn


def shared_flag(name: str, description: str) -> property:
    """Return a property that is set in a network and all those of its layers that have it.

    Parameters
    ----------
    name
        Name of the attribute that layers hold.
    description
        Docstring of the property.
    """
    own = f"_{name}"

    def get(network: nn.Module) -> bool:
        return bool(vars(network)[own])

    def set_(network: nn.Module, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"expected {name} to be True or False, got {value!r}")
        vars(network)[own] = value
        for layer in network.modules():
            if name in vars(layer):
                vars(layer)[name] = value

    return property(get, set_, doc=description)


AMP_MODE = shared_flag(
    "amp_mode",
    "Whether layers leave types to autocast; setting it sets it in all of them.",
)
PROFILE_MODE = shared_flag(
    "profile_mode", "Whether profiles show the parts of the network; setting it sets it in all."
)
FLAGS = ("amp_mode", "profile_mode")
