# SPDX-License-Identifier: Apache-2.0
"""Layers from configurations, as the arguments of models and so their files hold them.

A configuration is a mapping with the class's path under ``_target_`` and its arguments. Nothing is
imported because a configuration says so: the tables below are all that there is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from physicsnemo.core.aliases import current_name
from physicsnemo.nn import activations, get_activation

__all__ = ["Activation", "Configuration", "activation_of", "build", "plain"]

Configuration = Mapping[str, Any]
"""A class's path under ``_target_``, and its arguments by name."""

Activation = Configuration | str | nn.Module | None
"""A configuration of an activation, a name (:func:`physicsnemo.nn.get_activation`), or a module."""

LAYERS = "physicsnemo.models.dlwp_healpix_layers"

_TARGET = "_target_"
# What Hydra knows besides; whatever they say, a layer builds those that it consists of itself.
_IGNORED = {"_recursive_", "_convert_"}

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    name: getattr(activations, name)
    for name in ("CappedGELU", "CappedLeakyReLU", "SquarePlus", "Stan")
}
_TORCH_ACTIVATIONS: dict[str, type[nn.Module]] = {
    name: getattr(nn, name)
    for name in (
        "CELU",
        "ELU",
        "GELU",
        "Hardswish",
        "Hardtanh",
        "Identity",
        "LeakyReLU",
        "Mish",
        "PReLU",
        "ReLU",
        "ReLU6",
        "SELU",
        "SiLU",
        "Sigmoid",
        "Softplus",
        "Tanh",
    )
}


def build(configuration: Configuration, **arguments: Any) -> nn.Module:
    """Build the layer that a configuration describes.

    Parameters
    ----------
    configuration
        A mapping with ``_target_``.
    **arguments
        Take the place of those of the same name in the configuration.

    Raises
    ------
    TypeError
        If the configuration is no mapping, or the class does not take an argument.
    ValueError
        If it has no ``_target_``, or one that is not in the tables.
    """
    if not isinstance(configuration, Mapping):
        raise TypeError(
            f"expected the configuration of a layer, a mapping with {_TARGET!r}, got "
            f"{configuration!r}"
        )
    given = {name: configuration[name] for name in configuration if name not in _IGNORED}
    if not isinstance(given.get(_TARGET), str):
        raise ValueError(f"expected {_TARGET!r} to be the path of a layer's class, got {given!r}")
    return _find(given.pop(_TARGET))(**(given | arguments))


def activation_of(activation: Activation) -> nn.Module | None:
    """Return the activation that is named, configured or given."""
    if activation is None or isinstance(activation, nn.Module):
        return activation
    return get_activation(activation) if isinstance(activation, str) else build(activation)


def plain(value: Any) -> Any:
    """Return dictionaries and lists in place of other mappings and sequences, such as Hydra's."""
    if isinstance(value, Mapping):
        return {name: plain(value[name]) for name in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value


def _find(path: str) -> Callable[..., nn.Module]:
    module, _, name = path.rpartition(".")
    module, name = current_name(module, name)
    for package, classes in _tables().items():
        if f"{module}.".startswith(f"{package}.") and name in classes:
            return classes[name]
    known = (f"{package}.{name}" for package, classes in _tables().items() for name in classes)
    raise ValueError(f"no layer is known as {path!r}; there are {', '.join(known)}")


def _tables() -> dict[str, dict[str, type[nn.Module]]]:
    from physicsnemo.models import dlwp_healpix_layers

    layers = {name: getattr(dlwp_healpix_layers, name) for name in dlwp_healpix_layers.__all__}
    return {
        LAYERS: layers,
        "physicsnemo.nn": _ACTIVATIONS,
        "physicsnemo.models.layers": _ACTIVATIONS,
        "torch.nn": _TORCH_ACTIVATIONS,
    }
