# SPDX-License-Identifier: Apache-2.0
"""Implied defaults: what a file means by leaving an argument out.

A class may gain an argument that the reference implementation does not know, for choices in which
its releases differ. Its files cannot state that argument, so the release that wrote them implies
it: ``Module._implied_args`` maps the first release to the arguments that files from it on mean.
A file written here leaves such an argument out too, and claims a release that implies its value,
so that the reference implementation reads it; a value that no release implies stays in the file.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from physicsnemo.core.base import ModelBase, class_of, logger_of
from physicsnemo.core.format.records import Record
from physicsnemo.core.history import Argument, Implied, Renamed, Value, covers, order
from physicsnemo.core.install.provenance import recorded_as
from physicsnemo.core.releases import ReleaseEvidence


def implied_values(model_class: type[ModelBase], release: Any) -> dict[str, Any]:
    """Return the values of arguments that a file means where it does not state them.

    Takes what :func:`implied_defaults` does.
    """
    return {name: it.value for name, it in implied_defaults(model_class, release).items()}


def implied_defaults(model_class: type[ModelBase], release: Any) -> dict[str, Implied]:
    """Return the arguments that a file means where it does not state them.

    Parameters
    ----------
    model_class
        The class in the file.
    release
        ``physicsnemo_version`` of the file's metadata; what is missing or no version counts as the
        oldest.
    """
    by_release = sorted(model_class._implied_args.items(), key=lambda item: order(item[0]))
    begun = [meant for first, meant in by_release if order(first) <= order(release)]
    meant = (begun or [meant for _, meant in by_release[:1]] or [{}])[-1]
    # A subclass may have a constructor without the argument.
    names = _names(model_class) if meant else ()
    return {
        name: value if isinstance(value, Implied) else Implied(value)
        for name, value in meant.items()
        if name in names
    }


def omit_implied_defaults(
    models: Mapping[str, ModelBase], records: Mapping[str, Record], release: str
) -> str:
    """Leave arguments whose default is implied out of records that are about to be written.

    Parameters
    ----------
    models, records
        The models of a file and their records, by the same keys.
    release
        The release that the file claims if it may.

    Returns
    -------
    The release that the file is to claim: one by which all arguments are implied, if there is one.
    """
    known = [first for model in models.values() for first in model._implied_args]
    for claim in (release, *known):
        if all(_agrees(type(models[key]), records[key], claim) for key in models):
            release = claim
            break
    for key, model in models.items():
        arguments = records[key]["__args__"]
        for name, value in implied_defaults(class_of(model), release).items():
            if arguments[name] == value.value:
                del arguments[name]
                continue
            logger_of(model).info(
                "%s=%r is unknown to nvidia-physicsnemo, which will refuse this file",
                name,
                arguments[name],
            )
        for it in class_of(model)._argument_history:
            if isinstance(it, Argument) and it.since and arguments.get(it.name) == it.default:
                del arguments[it.name]  # as older releases do not know it
    return release


def convert_to_release(
    models: Mapping[str, ModelBase], records: Mapping[str, Record], release: str
) -> None:
    """Convert records to what a release of the reference implementation reads.

    Parameters
    ----------
    models, records
        The models of a file and their records, by the same keys.
    release
        As in ``"1.3"``.

    Raises
    ------
    ValueError
        If a value cannot be said in a file of that release; the text names the argument.
    """
    if len(models) > 1 and order(release) < (1, 3):
        raise ValueError(f"files of {release} hold no model within another; take 1.3 or later")
    for key, model in models.items():
        arguments = records[key]["__args__"]
        for name, meant in implied_defaults(class_of(model), release).items():
            _leave_out(arguments, name, meant, release)
        for it in class_of(model)._argument_history:
            _write(arguments, it, release, is_foreign(class_of(model), it))
        module, name = recorded_as(class_of(model), release)
        records[key].update(__module__=module, __name__=name)


def is_foreign(model_class: type[ModelBase], it: Argument | Value | Renamed) -> bool:
    """Tell whether an entry of a history is of an argument that the class here does not take."""
    names = _names(model_class).values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in names)
    return isinstance(it, Argument) and not takes_any and it.name not in _names(model_class)


def shown_by_arguments(model_class: type[ModelBase], record: Record) -> Iterator[ReleaseEvidence]:
    """Yield the oldest releases that may have written a record, by what its class knows of them.

    Parameters
    ----------
    model_class
        The class that the record is of.
    record
        What a file holds of it.
    """
    arguments, path = record["__args__"], (record["__module__"], record["__name__"])
    for it in model_class._argument_history:
        if isinstance(it, Renamed):
            continue
        known = it.name in arguments if isinstance(it, Argument) else it.is_in(arguments)
        if known and it.since is not None:
            yield ReleaseEvidence.shown(
                it.since, f"the argument {it.name}={arguments[it.name]!r:.60}"
            )
        if isinstance(it, Argument) and it.until is not None and it.since is None and not known:
            yield ReleaseEvidence.shown(it.until, f"no argument {it.name}")
    for release in model_class._recorded_by_release:
        if path == recorded_as(model_class, release) != recorded_as(model_class):
            yield ReleaseEvidence.shown(release, f"the class as {'.'.join(path)}")


def _write(
    arguments: dict[str, Any], it: Argument | Value | Renamed, release: str, is_foreign: bool
) -> None:
    """Make arguments those of a release, by one entry of a history."""
    if isinstance(it, Argument):
        if not covers(it, release):
            _leave_out(arguments, it.name, Implied(it.default), release)
        elif is_foreign:
            arguments[it.name] = it.default
    elif isinstance(it, Renamed) and covers(it, release):
        arguments.update((name, _respelt(value, it)) for name, value in arguments.items())
    elif isinstance(it, Value) and it.is_in(arguments) and not covers(it, release):
        raise ValueError(
            f"{it.name}={arguments[it.name]!r} cannot be said in a file of nvidia-physicsnemo "
            f"{release}, which refuses it; save without for_release, or build the model otherwise"
        )


def _respelt(value: Any, it: Renamed) -> Any:
    if isinstance(value, str):
        return it.theirs + value.removeprefix(it.ours) if value.startswith(it.ours) else value
    if isinstance(value, dict):
        return {name: _respelt(item, it) for name, item in value.items()}
    return [_respelt(item, it) for item in value] if isinstance(value, list) else value


def _leave_out(arguments: dict[str, Any], name: str, meant: Implied, release: str) -> None:
    if name in arguments and not meant.means(arguments[name]):
        raise ValueError(
            f"{name}={arguments[name]!r} cannot be said in a file of nvidia-physicsnemo {release}, "
            f"which means {meant.value!r} there; save without for_release, or build the model so"
        )
    arguments.pop(name, None)


def _names(model_class: type[ModelBase]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model_class.__init__).parameters


def _agrees(model_class: type[ModelBase], record: Record, release: str) -> bool:
    arguments = record["__args__"]
    return all(
        arguments[name] == it.value for name, it in implied_defaults(model_class, release).items()
    )
