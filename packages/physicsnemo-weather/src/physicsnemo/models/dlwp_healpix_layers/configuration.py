# SPDX-License-Identifier: Apache-2.0
"""Layers built from configurations, which are arguments of models and part of their files.

A configuration is a mapping with a class or its path under ``_target_``, and its arguments. It
never causes an import: only the classes in the tables below can be named.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from physicsnemo.nn import activations, get_activation
from physicsnemo.registry import current_name

__all__ = ["Activation", "Configuration", "activation_of", "build", "serializable"]

Configuration = Mapping[str, Any]
"""Mapping with a class or its path under ``_target_``, and its arguments by name."""

Activation = Configuration | str | nn.Module | None
"""Activation: a configuration, a name (:func:`physicsnemo.nn.get_activation`), or a module."""

LAYERS = "physicsnemo.models.dlwp_healpix_layers"

_TARGET = "_target_"
# Other keys of Hydra, ignored: layers build their own parts, whatever these say.
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
    """Build a layer from its configuration.

    Parameters
    ----------
    configuration
        Mapping with ``_target_``.
    **arguments
        Arguments that override those of the configuration.

    Raises
    ------
    TypeError
        If the configuration is not a mapping, or the class does not take an argument.
    ValueError
        If ``_target_`` is missing or unknown.
    """
    if not isinstance(configuration, Mapping):
        raise TypeError(
            f"expected the configuration of a layer, a mapping with {_TARGET!r}, got "
            f"{configuration!r}"
        )
    given = {name: configuration[name] for name in configuration if name not in _IGNORED}
    target = _path(given.pop(_TARGET, None))
    if not isinstance(target, str):
        raise ValueError(
            f"expected {_TARGET!r} to be the path of a layer's class, got {dict(configuration)!r}"
        )
    return _find(target)(**(given | arguments))


def activation_of(activation: Activation) -> nn.Module | None:
    """Return the activation for a configuration, a name or a module."""
    if activation is None or isinstance(activation, nn.Module):
        return activation
    return get_activation(activation) if isinstance(activation, str) else build(activation)


def serializable(value: Any) -> Any:
    """Convert a configuration, which may be one of Hydra's, to what a file can hold.

    Mappings become dictionaries, sequences lists, and classes their paths.
    """
    if isinstance(value, Mapping):
        items = {name: serializable(value[name]) for name in value}
        return items | {_TARGET: _path(items[_TARGET])} if _TARGET in items else items
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [serializable(item) for item in value]
    return value


def _path(target: Any) -> Any:
    return f"{target.__module__}.{target.__qualname__}" if isinstance(target, type) else target


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
    # Where releases of nvidia-physicsnemo from 2.0 on have those that are of no one family.
    shared = {name: layer for name, layer in layers.items() if name.startswith("HEALPix")}
    shared |= {f"HEALPix{name}": layers[name] for name in ("AvgPool", "MaxPool")}
    return {
        LAYERS: layers | shared,
        "physicsnemo.nn": _ACTIVATIONS | shared,
        "physicsnemo.models.layers": _ACTIVATIONS,
        "torch.nn": _TORCH_ACTIVATIONS,
    }
