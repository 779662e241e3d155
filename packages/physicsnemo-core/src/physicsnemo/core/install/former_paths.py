# SPDX-License-Identifier: Apache-2.0
"""Imports by the paths of other releases, and what an import that fails tells.

A finder in front of the others lets them look for each module below ``physicsnemo``. A module that
other releases have in another place is then made up of what the table of paths says; one that is
here gets the names that it had there. Either imports what a name stands for when it is first
touched, so that all paths lead to the same objects, and no path costs anything before.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from physicsnemo.core.install.aliases import ROOT, current_module, is_former, places
from physicsnemo.core.install.entry_points import installed_models, owners, shipped_models

_SIMILAR = 0.8  # of 1, so that a name is offered for a slip of the pen, not for another thing


def install() -> None:
    """Have imports know the paths of other releases from now on."""
    sys.meta_path.insert(0, FormerPaths())


class FormerPaths(MetaPathFinder):
    """Finds modules below ``physicsnemo`` where other releases have them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders do, completed, or what the table of paths tells.

        Raises
        ------
        ModuleNotFoundError
            If the module, or the name that it was taken for, is part of a package that is not
            installed; the text says which.
        ImportError
            If other releases have the name and this project has not; the text says why. Or if the
            package has one much like it.
        """
        if not fullname.startswith(f"{ROOT}."):
            return None
        spec = self._found_by_others(fullname, path, target)
        if spec is not None:
            if is_former(fullname) and spec.loader is not None:
                spec.loader = _Completing(spec.loader)
            return spec
        package, _, name = fullname.rpartition(".")
        if path is not getattr(sys.modules.get(package), "__path__", None):
            return None  # not an import: pytest asks each finder for files of a folder it names
        _check_installed(fullname)
        if is_former(fullname) or _is_within_former(fullname):
            return ModuleSpec(fullname, _Forwarding(), is_package=True)
        _check_name(package, name)
        return None

    def _found_by_others(self, *arguments: Any) -> ModuleSpec | None:
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            if spec := finder.find_spec(*arguments):
                return spec
        return None


class _Forwarding(Loader):
    """Makes a module of which nothing is here but where its names are."""

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = f"What other releases have in {module.__name__}; it is elsewhere here."
        complete(module)


class _Completing(Loader):
    """Loads a module as another loader does, and adds the names that other releases have in it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        complete(module)


def complete(module: ModuleType) -> None:
    """Give a module the names that other releases have in it, each imported at its first use."""
    former, namespace = module.__name__, vars(module)
    own_getattr = namespace.get("__getattr__", partial(_no_attribute, former))
    own_dir = namespace.get("__dir__", partial(list, namespace))

    def get(name: str) -> Any:
        if name.startswith("__"):
            return own_getattr(name)
        try:
            namespace[name] = value = _find(former, name)
        except ImportError as error:
            raise AttributeError(str(error)) from error
        except LookupError:
            try:
                return own_getattr(name)
            except AttributeError as error:
                raise AttributeError(f"{error}{_advice(former, name)}") from error
        return value

    namespace.update(__getattr__=get, __dir__=lambda: sorted({*own_dir(), *_known(former)}))


def _no_attribute(module: str, name: str) -> Any:
    if name == "__all__" and module != current_module(module):
        import_module(current_module(module))  # `from module import *` wants all that is in it
        return sorted(_known(module))
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def _find(module: str, name: str) -> Any:
    """Return what a name of another release's module stands for.

    Raises
    ------
    ImportError
        If it is not here, or is and cannot be imported.
    LookupError
        If nothing is known of it.
    """
    place = places(module).get(name)
    if place is not None:
        if not place.module:
            raise ImportError(_reason(module, name))
        return getattr(import_module(place.module), place.name)
    present = current_module(module)
    if present == module or is_former(f"{module}.{name}"):
        raise LookupError(name)
    try:
        return getattr(import_module(present), name)
    except AttributeError:
        raise LookupError(name) from None


def _known(module: str) -> set[str]:
    """Return the names of a former module that are here, as far as that costs no import."""
    names = {name for name, place in places(module).items() if place.module}
    present = sys.modules.get(current_module(module))
    return names | set(getattr(present, "__all__", ()))


def _is_within_former(module: str) -> bool:
    """Tell whether a module is part of a package that has moved here as a whole."""
    present = current_module(module)
    try:
        return present != module and find_spec(present) is not None
    except ImportError:
        return False


def _check_installed(module: str) -> None:
    """Raise a ModuleNotFoundError if a module is all of what a missing package is known for."""
    distribution = owners().get(module)
    if distribution is not None:
        # It has no name: where `from package import module` fails, Python would drop the text.
        raise ModuleNotFoundError(f"No module named {module!r}{_part_of(distribution)}")


def _check_name(module: str, name: str) -> None:
    """Raise the error of ``from module import name`` if there is more to say than Python does."""
    try:
        _find(module, name)
    except LookupError:
        if advice := _advice(module, name):
            text = f"cannot import name {name!r} from {module!r}{advice}"
            raise ModuleNotFoundError(text) from None


def _reason(module: str, name: str) -> str:
    row = places(module)[name].row
    instead = f"; use {row.instead.replace(':', '.')}" if row.instead else ""
    return f"there is no {module}.{name} here: {row.reason}{instead}"


def _advice(module: str, name: str) -> str:
    """Return what to do about a name that a module has not, empty if there is nothing to say."""
    known = {*dir(sys.modules.get(module))}
    if name.startswith("_") or name in known:
        return ""
    if module == f"{ROOT}.models":
        if name in shipped_models():
            return _part_of(shipped_models()[name]["distribution"])
        known |= {*installed_models()}
    elif module.startswith(f"{ROOT}.models.") and name in installed_models():
        return f"; it is in {installed_models()[name][0].value.partition(':')[0]}"
    by_lower_case = {other.lower(): other for other in known if not other.startswith("_")}
    matches = get_close_matches(name.lower(), by_lower_case, cutoff=_SIMILAR)
    return f"; did you mean {' or '.join(by_lower_case[it] for it in matches)}?" if matches else ""


def _part_of(distribution: str) -> str:
    return f": it is part of {distribution}, run 'pip install {distribution}'"
