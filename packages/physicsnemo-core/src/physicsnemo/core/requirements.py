# SPDX-License-Identifier: Apache-2.0
"""Whether an installed distribution fits the installed versions of this project's packages."""

from collections.abc import Iterator

import importlib_metadata
from packaging.requirements import Requirement

PREFIX = "physicsnemo-"


def unmet_requirements(source: importlib_metadata.Distribution) -> list[str]:
    """Return what a distribution asks of this project's packages in vain, one text for each.

    Installers see to that, but can be told not to.
    """
    return [
        f"{source.name} {source.version} requires {requirement}, but {installed}: "
        f"run 'pip install --upgrade {source.name}'"
        for requirement in _requirements(source)
        if (installed := _misfit(requirement))
    ]


def _requirements(source: importlib_metadata.Distribution) -> Iterator[Requirement]:
    texts = source.requires or ()
    for requirement in (Requirement(text) for text in texts if text.startswith(PREFIX)):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _misfit(requirement: Requirement) -> str | None:
    try:
        installed = importlib_metadata.version(requirement.name)
    except importlib_metadata.PackageNotFoundError:
        return "it is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{installed} is installed"
