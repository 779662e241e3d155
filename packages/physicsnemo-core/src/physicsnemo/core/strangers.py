# SPDX-License-Identifier: Apache-2.0
"""Detection of distributions that overwrite files of this namespace."""

import warnings

from physicsnemo.core.errors import NamespaceWarning
from physicsnemo.core.installed import installed_version

STRANGERS = ("nvidia-physicsnemo",)


def warn_about_strangers() -> None:
    """Warn if a distribution is installed that ships its own ``physicsnemo`` package.

    Installers overwrite one package's files by the other's without a word, and uninstalling
    either deletes files of both.
    """
    for name in STRANGERS:
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
