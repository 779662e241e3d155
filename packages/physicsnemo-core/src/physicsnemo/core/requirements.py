# SPDX-License-Identifier: Apache-2.0
"""Whether an installed distribution fits the installed versions of this project's packages."""

from collections.abc import Iterator
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from physicsnemo.core.installed import identity, installed_version

PREFIX = "physicsnemo-"


def unmet_requirements(source: Any) -> list[str]:
    """Return what a distribution asks of this project's packages in vain, one text for each.

    Installers see to that, but can be told not to.
    """
    name, version = identity(source)
    return [
        f"{name} {version} requires {requirement}, but {installed}: "
        f"run 'pip install --upgrade {name}'"
        for requirement in _requirements(source)
        if (installed := _misfit(requirement))
    ]


def _requirements(source: Any) -> Iterator[Requirement]:
    try:
        texts = source.requires or ()
    except Exception:  # the metadata are gone, or never came
        return
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        fits_here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if text.startswith(PREFIX) and fits_here:
            yield requirement


def _misfit(requirement: Requirement) -> str | None:
    installed = installed_version(requirement.name)
    if installed is None:
        return "it is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{installed} is installed"
