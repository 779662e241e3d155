# SPDX-License-Identifier: Apache-2.0
"""The entries of a class's history, by release; see :mod:`physicsnemo.models.history`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NOTHING = object()


@dataclass(frozen=True)
class Renamed:
    """Keys of a module's state that files of some releases spell otherwise.

    Both spellings are read from any file, one of them at a time. In the history of arguments, it
    stands for texts among them, at any depth, as for paths of classes that moved.

    Attributes
    ----------
    ours
        How the keys begin here, below the module, as in ``"fc1."``; or a whole key.
    theirs
        How they begin there.
    since
        The first release that wrote them so, None for the oldest.
    until
        The first release that did not any more, None where the newest does.
    """

    ours: str
    theirs: str
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Twin:
    """A tensor that files of some releases hold by a second name too.

    It is read from any file by either name; of a file that holds both, the second counts. A module
    may keep both, for one tensor.

    Attributes
    ----------
    name
        Its key here, below the module.
    twin
        The second one.
    since
        The first release that wrote the second, None for the oldest.
    until
        The first release that did not any more, None where the newest does.
    """

    name: str
    twin: str
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Ignored:
    """Keys of a file that mean nothing here, as other libraries add them to a state.

    Attributes
    ----------
    ending
        How they end, at any depth below the module.
    """

    ending: str


@dataclass(frozen=True)
class Constant:
    """A tensor that files of some releases hold although the constructor arguments fix it.

    It may be missing from any file. Where it is there, it must agree with the attribute of that
    name, at the precision of either.

    Attributes
    ----------
    name
        Key of the tensor below the module, and the name of a buffer or attribute.
    since
        The first release that wrote it, None for the oldest.
    until
        The first release that did not any more, None where the newest does.
    tolerance
        The largest relative difference, where releases computed it less precisely; None where any
        is allowed, since the module keeps its own.
    """

    name: str
    since: str | None = None
    until: str | None = None
    tolerance: float | None = 1e-5


@dataclass(frozen=True)
class Argument:
    """A constructor argument that not every release knows, or that only files know.

    Attributes
    ----------
    name
        What it is called.
    default
        The value that leaving it out means.
    since
        The first release that knows it, None for the oldest.
    until
        The first release that does not any more, None where the newest does.
    ignored
        Further values that make no difference here, of an argument that this class does not have.
    """

    name: str
    default: Any
    since: str | None = None
    until: str | None = None
    ignored: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Value:
    """A value of a constructor argument that not every release takes.

    Attributes
    ----------
    name
        What the argument is called.
    value
        The value; or a type, for all values of it.
    since
        The first release that takes it, None for the oldest.
    until
        The first release that does not any more, None where the newest does.
    """

    name: str
    value: Any
    since: str | None = None
    until: str | None = None

    def is_in(self, arguments: Mapping[str, Any]) -> bool:
        """Tell whether arguments have the value."""
        given = arguments.get(self.name, _NOTHING)
        if isinstance(self.value, type):
            return isinstance(given, self.value)
        return type(given) is type(self.value) and bool(given == self.value)


@dataclass(frozen=True)
class Implied:
    """A value that files mean by leaving an argument out.

    Attributes
    ----------
    value
        The value.
    same
        All values that mean the same to this class.
    """

    value: Any
    same: tuple[Any, ...] = ()

    def means(self, value: Any) -> bool:
        """Tell whether a value means the same."""
        return value == self.value or value in self.same


def order(release: Any) -> tuple[int, ...]:
    """Return what sorts releases by age; anything that is no release is older than all."""
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})", release) if isinstance(release, str) else None
    return tuple(map(int, numbers.groups())) if numbers else ()


def covers(change: Any, release: str) -> bool:
    """Tell whether a release lies between ``since`` and ``until`` of an entry of a history."""
    at = order(release)
    return at >= order(change.since) and (change.until is None or at < order(change.until))
