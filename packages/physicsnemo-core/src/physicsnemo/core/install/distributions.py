# SPDX-License-Identifier: Apache-2.0
"""Installed distributions and their entry points, read so that a broken one stops nothing.

An interrupted installation leaves metadata without the file ``METADATA``, or a folder that pip has
set aside by a ``~`` in its name; another process may remove a distribution at any time.
"""

import logging
import os
import re
import warnings
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import importlib_metadata

from physicsnemo.core.errors import NamespaceWarning

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_NAME = re.compile(r"^Name:[ \t]*\S", re.MULTILINE | re.IGNORECASE)
_CONFLICTS = ("nvidia-physicsnemo",)  # distributions that ship a package ``physicsnemo`` too
_OWN = "physicsnemo-"  # how the names of this project's distributions begin


class EntryPoint(NamedTuple):
    """An entry point; ``leftover`` tells whether its distribution is what a broken install left."""

    group: str
    name: str
    value: str
    source: Any
    leftover: bool


def entry_points(groups: Iterable[str], category: type[Warning]) -> Iterator[EntryPoint]:
    """Yield the entry points of some groups; what is broken is left out, with one warning each.

    Parameters
    ----------
    groups
        Names of groups.
    category
        Class of the warnings.
    """
    groups = frozenset(groups)
    for source in importlib_metadata.distributions():
        try:
            text = source.read_text("entry_points.txt") or ""
        except (OSError, ValueError) as error:  # no UTF-8, for example
            warn_anyway(f"the entry points of {folder(source)} cannot be read: {error}", category)
            continue
        if not any(group in text for group in groups):
            continue
        points, malformed = _parse(text, groups)
        if malformed:
            lines = ", ".join(map(repr, malformed))
            warn_anyway(f"{folder(source)} has malformed entry points: {lines}", category)
        if not points:
            continue
        if folder(source).startswith("~"):
            warn_anyway(f"{folder(source)} is left out: {_LEFTOVER}", category)
            continue
        leftover = not _has_name(source)
        if leftover:
            warn_anyway(f"{folder(source)} has no METADATA: {_LEFTOVER}", category)
        for group, name, value in points:
            yield EntryPoint(group, name, value, source, leftover)


_LEFTOVER = "an installation was interrupted; delete the folder, or install the package again"


def identity(source: Any) -> tuple[str, str]:
    """Return name and version of a distribution, those of its folder where it has no metadata."""
    try:
        name, version = source.metadata["Name"], source.metadata["Version"]
    except Exception:  # each release of importlib_metadata reports it in another way
        name = version = None
    spelled, _, number = folder(source).rpartition(".")[0].partition("-")
    return str(name or spelled.replace("_", "-")), str(version or number or "of unknown version")


def field_of(source: Any, name: str) -> str:
    """Return a field of a distribution's metadata, empty if there is none."""
    try:
        return str(source.metadata.get(name) or "")
    except Exception:  # each release of importlib_metadata reports missing metadata in another way
        return ""


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, None if there is none, or a leftover."""
    for source in importlib_metadata.distributions(name=name):
        if _has_name(source):
            return identity(source)[1]
    return None


def distributions_of(package: str) -> set[str]:
    """Return the names of the distributions that ship a top-level package."""
    found = (source for source in importlib_metadata.distributions() if _has_name(source))
    return {identity(source)[0] for source in found if _ships(source, package)}


def warn_about_conflicts() -> None:
    """Warn if a distribution is installed that ships its own ``physicsnemo`` package.

    Installers overwrite one package's files by the other's without a word, and uninstalling
    either deletes files of both.
    """
    for name in _CONFLICTS:
        version = installed_version(name)
        if version is None:
            continue
        warnings.warn(
            f"{name} {version} is installed and ships its own package 'physicsnemo', which mixes "
            f"with the files of physicsnemo-core. Use separate environments, or run "
            f"'pip uninstall {name}' and then 'pip install --force-reinstall physicsnemo-core' "
            f"with the families that you use.",
            NamespaceWarning,
            stacklevel=3,
        )


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


def folder(source: Any) -> str:
    """Return what the folder of a distribution's metadata is called."""
    return os.path.basename(str(getattr(source, "_path", "") or "unknown").rstrip("/\\"))


def warn_anyway(text: str, category: type[Warning]) -> None:
    """Warn, and go on even where warnings are errors: what is broken belongs to somebody else."""
    try:
        warnings.warn(text, category, stacklevel=2)
    except category:
        logging.getLogger("physicsnemo").warning("%s", text)


def _parse(text: str, groups: Container[str]) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return group, name and value of each entry point of some groups, and lines that are none."""
    points, malformed, group = list[tuple[str, str, str]](), list[str](), ""
    for line in map(str.strip, text.splitlines()):
        name, _, value = (part.strip() for part in line.partition("="))
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group not in groups or not line or line.startswith(("#", ";")):
            continue
        elif name and value:
            points.append((group, name, value.partition("[")[0].strip()))  # without extras
        else:
            malformed.append(line)
    return points, malformed


def _has_name(source: Any) -> bool:
    try:
        text = source.read_text("METADATA") or source.read_text("PKG-INFO") or ""
        if not text and folder(source).endswith(".egg-info"):
            text = source.read_text("") or ""  # where the metadata is one file
    except (OSError, ValueError):
        return False
    return _NAME.search(text) is not None


def _ships(source: Any, package: str) -> bool:
    try:
        declared = (source.read_text("top_level.txt") or "").split()
        files = () if declared else source.files or ()
    except Exception:  # a RECORD can be broken in any way
        return False
    return package in declared or any(
        file.parts[0] == package if len(file.parts) > 1 else file.stem == package
        for file in files
        if file.suffix == ".py"
    )


def _requirements(source: Any) -> Iterator["Requirement"]:
    # Late, since listing models needs none of it, and it takes a third of that time.
    from packaging.requirements import InvalidRequirement, Requirement

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
        if text.startswith(_OWN) and fits_here:
            yield requirement


def _misfit(requirement: "Requirement") -> str | None:
    installed = installed_version(requirement.name)
    if installed is None:
        return "it is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{installed} is installed"
