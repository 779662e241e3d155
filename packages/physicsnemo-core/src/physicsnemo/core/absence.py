# SPDX-License-Identifier: Apache-2.0
"""What a file means by leaving an argument out.

A class may gain an argument that the reference implementation does not know, for choices in which
its releases differ. Its files cannot state that argument, so the release that wrote them implies
it: ``Module._implied_args`` maps the first release to the arguments that files from it on mean.
A file written here leaves such an argument out too, and claims a release that implies its value,
so that the reference implementation reads it; a value that no release implies stays in the file.
"""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from physicsnemo.core.releases import order
from physicsnemo.models.history import Implied

if TYPE_CHECKING:
    from physicsnemo.core.arguments import Record
    from physicsnemo.models.module import Module


def implied_arguments(model_class: "type[Module]", release: Any) -> dict[str, Any]:
    """Return the values of arguments that a file means where it does not state them.

    Takes what :func:`implied` does.
    """
    return {name: it.value for name, it in implied(model_class, release).items()}


def implied(model_class: "type[Module]", release: Any) -> dict[str, Implied]:
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
    names = inspect.signature(model_class.__init__).parameters if meant else {}
    return {
        name: value if isinstance(value, Implied) else Implied(value)
        for name, value in meant.items()
        if name in names
    }


def leave_out_implied(
    models: "Mapping[str, Module]", records: "Mapping[str, Record]", release: str
) -> str:
    """Drop implied arguments from records that are about to be written.

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
        for name, value in implied(type(model), release).items():
            if value.means(arguments[name]):
                del arguments[name]
                continue
            model.logger.info(
                "%s=%r is unknown to nvidia-physicsnemo, which will refuse this file",
                name,
                arguments[name],
            )
    return release


def _agrees(model_class: "type[Module]", record: "Record", release: str) -> bool:
    arguments = record["__args__"]
    return all(it.means(arguments[name]) for name, it in implied(model_class, release).items())
