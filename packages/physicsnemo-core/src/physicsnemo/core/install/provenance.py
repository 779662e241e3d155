# SPDX-License-Identifier: Apache-2.0
"""Provenance: the distribution that a class comes from, and the path by which files record it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from physicsnemo.core.format.records import metadata_key
from physicsnemo.core.history import order
from physicsnemo.core.install.distributions import distributions_of, installed_version
from physicsnemo.core.install.entry_points import entry_of, shipped_models, unlisted_entry_of

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")  # of a distribution
_VERSION = re.compile(r"[A-Za-z0-9.+!_-]{1,100}")
_CLASS = re.compile(r"[^\x00-\x1f]{1,1000}")  # or the name that it is registered under


@dataclass(frozen=True)
class Origin:
    """The distribution that a class comes from; all None for one defined in a script.

    Attributes
    ----------
    distribution, version
        What pip calls it.
    registered_name
        The name that it registers the class under; converted classes often have one of their own.
    defined_as
        Module and qualified name of the class, as in ``"lab.models:Net"``; of a converted class,
        those of the torch class.
    """

    distribution: str | None = None
    version: str | None = None
    registered_name: str | None = None
    defined_as: str | None = field(default=None, compare=False)

    @classmethod
    def of(cls, model_class: type) -> "Origin":
        """Find the origin of a class."""
        defined_as = definition(model_class)
        if entry := entry_of(model_class):
            return cls(entry.distribution, entry.version, entry.name, defined_as)
        if entry := unlisted_entry_of(model_class):
            return cls(entry.distribution, entry.version, None, defined_as)
        return cls(*_shipping(re.split("[.:]", defined_as)[0]), None, defined_as)

    @classmethod
    def read(cls, metadata: Mapping[str, Any], key: str = "") -> "Origin":
        """Take it from a file's metadata; what is not a proper name or version counts as absent.

        Parameters
        ----------
        metadata
            Content of ``metadata.json``.
        key
            The key of a nested model, by default the outermost one.
        """
        distribution, version, registered_name, defined_as = (
            metadata.get(metadata_key(key, name)) for name in _KEYS
        )
        defined_as = defined_as if _is(_CLASS, defined_as) else None
        if not _is(_NAME, distribution):
            return cls(defined_as=defined_as)
        return cls(
            distribution,
            version if _is(_VERSION, version) else None,
            registered_name if _is(_CLASS, registered_name) else None,
            defined_as,
        )

    @property
    def registry_name(self) -> str:
        """What the registry takes to reach exactly this class."""
        return f"{self.distribution}:{self.registered_name}"

    def metadata(self, key: str = "") -> dict[str, str | None]:
        """Return what a file records of it."""
        values = (self.distribution, self.version, self.registered_name, self.defined_as)
        return {metadata_key(key, name): value for name, value in zip(_KEYS, values, strict=True)}

    def installed_version(self) -> str | None:
        """Return which version of the distribution is installed, None if there is none."""
        return None if self.distribution is None else installed_version(self.distribution)

    def problem(self) -> str | None:
        """Say what differs between what the file was saved by and what is installed."""
        if self.distribution is None:
            return None
        saved = f"saved by {self.distribution}" + (f" {self.version}" if self.version else "")
        installed = self.installed_version()
        if installed is None:
            # A file may name any distribution, and who installs a stranger's runs its code.
            known = {model["distribution"] for model in shipped_models().values()}
            way = f"run 'pip install {self.distribution}'"
            way = way if self.distribution in known else "install it if you trust it"
            return f"{saved}, which is not installed: {way}"
        if self.version not in (None, installed):
            return f"{saved}, but {installed} is installed"
        return None


_KEYS = ("distribution", "distribution_version", "registered_name", "defined_as")


def torch_class_of(model_class: type) -> type[Any] | None:
    """Return the class that ``Module.from_torch`` made a class of, None for one that it did not."""
    converted = vars(model_class).get("_converted_from")
    return None if converted is None else converted.torch_class


def recorded_as(model_class: type, release: str | None = None) -> tuple[str, str]:
    """Return the module and the name under which files record a class.

    They are its own, unless the class itself, no class that it derives from, says otherwise: by
    ``_recorded_as`` for all files, by ``_recorded_by_release`` for those that are saved for a
    release. A module can so be split or renamed, and files stay as they are.

    Parameters
    ----------
    model_class
        The class.
    release
        The release of the reference implementation that is to read the file, if it matters.

    Examples
    --------
    >>> class Net:
    ...     _recorded_as = "lab.nets.Net"
    ...     _recorded_by_release = {"2.0": "lab.networks.Network"}
    >>> recorded_as(Net), recorded_as(Net, "2.1")
    (('lab.nets', 'Net'), ('lab.networks', 'Network'))
    """
    here, by_release = _recorded_paths(model_class)
    begun = [first for first in by_release if release and order(first) <= order(release)]
    path = by_release[max(begun, key=order)] if begun else here
    if path is None:
        return model_class.__module__, model_class.__name__
    module, _, name = path.rpartition(".")
    return module, name


def is_recorded_as(model_class: type, module: str, name: str) -> bool:
    """Tell whether files may record a class so: by its own path, or by ``_recorded_as``."""
    own = (model_class.__module__, model_class.__name__)
    return (module, name) in (own, recorded_as(model_class))


def _recorded_paths(model_class: type) -> tuple[str | None, Mapping[str, str]]:
    # Of the class alone: who derives from it makes another one, which those paths do not mean.
    own = vars(model_class)
    return own.get("_recorded_as"), own.get("_recorded_by_release", {})


def definition(model_class: type) -> str:
    """Return module and qualified name of a class, or of the torch class that it wraps.

    They are those that files record, where the class has others than its own.

    Examples
    --------
    >>> from physicsnemo import Module
    >>> import torch
    >>> definition(Module.from_torch(torch.nn.Linear))
    'torch.nn.modules.linear:Linear'
    """
    source = torch_class_of(model_class) or model_class
    if "_recorded_as" in vars(source):
        return ":".join(recorded_as(source))
    return f"{source.__module__}:{source.__qualname__}"


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


@cache
def _shipping(package: str) -> tuple[str | None, str | None]:
    """Return name and version of the one distribution that ships a top-level package."""
    names = distributions_of(package)
    if len(names) != 1:
        return None, None
    return (name := names.pop()), installed_version(name)
