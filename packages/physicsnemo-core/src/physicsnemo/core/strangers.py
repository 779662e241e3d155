# SPDX-License-Identifier: Apache-2.0
"""Detection of distributions that overwrite files of this namespace."""

import warnings

import importlib_metadata

from physicsnemo.core.errors import NamespaceWarning

STRANGERS = ("nvidia-physicsnemo",)


def warn_about_strangers() -> None:
    """Warn if a distribution is installed that ships its own ``physicsnemo`` package.

    Installers overwrite one package's files by the other's without a word, and uninstalling
    either deletes files of both.
    """
    for name in STRANGERS:
        try:
            version = importlib_metadata.version(name)
        except importlib_metadata.PackageNotFoundError:
            continue
        warnings.warn(
            f"{name} {version} is installed and ships its own package 'physicsnemo', which mixes "
            f"with the files of physicsnemo-core. Use separate environments, or run "
            f"'pip uninstall {name}' and then 'pip install --force-reinstall physicsnemo-core' "
            f"with the families that you use.",
            NamespaceWarning,
            stacklevel=3,
        )
