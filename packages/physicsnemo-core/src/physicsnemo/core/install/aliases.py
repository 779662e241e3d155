# SPDX-License-Identifier: Apache-2.0
"""Aliases: class paths of other releases of the reference implementation, and the present ones.

``aliases.json`` is the reviewed table: ``packages`` maps packages and modules, the deepest that
fits counts; ``classes`` maps class names below a package, already by its name here.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

FORMER_PACKAGE = "modulus"


def current_name(module: str, name: str) -> tuple[str, str]:
    """Return the module and name here of a class that a file of some release names.

    What the table of aliases does not know stays as it is. Nothing is imported.

    Parameters
    ----------
    module, name
        As the file has them.

    Examples
    --------
    >>> current_name("physicsnemo.models.diffusion_unets.unet", "CorrDiffRegressionUNet")
    ('physicsnemo.models.diffusion.unet', 'UNet')
    >>> current_name("modulus.models.fno.fno", "FNO")
    ('physicsnemo.models.fno.fno', 'FNO')
    """
    module, table = without_former_package(module), _table()
    for known in _parents(module):
        if known in table.packages:
            module = table.packages[known] + module.removeprefix(known)
            break
    for known in _parents(module):
        name = table.classes.get(known, {}).get(name, name)
    return module, name


def without_former_package(module: str) -> str:
    """Return a module's path by the present name of the reference implementation."""
    package, dot, rest = module.partition(".")
    return f"physicsnemo{dot}{rest}" if package == FORMER_PACKAGE else module


def _parents(module: str) -> list[str]:
    """Return a module and the packages around it, the deepest that the table may know first."""
    parts = module.split(".", _table().depth)[: _table().depth]
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


@dataclass(frozen=True)
class _Table:
    packages: dict[str, str]
    classes: dict[str, dict[str, str]]

    @property
    def depth(self) -> int:
        """How many names the deepest module in it has."""
        return max(name.count(".") for name in (*self.packages, *self.classes)) + 1


@cache
def _table() -> _Table:
    text = files("physicsnemo.core.install").joinpath("aliases.json").read_text(encoding="utf-8")
    return _Table(**json.loads(text))
