# SPDX-License-Identifier: Apache-2.0
"""Records of constructor calls, as ``args.json`` holds them: the outer model's, and nested ones.

A record is ``{"__name__": ..., "__module__": ..., "__args__": {...}}``. An argument that is itself
a model stands as the text ``__physicsnemo.Module__.<path>``, and the record of that model stands
beside the outer one under the same text.
"""

from collections.abc import Iterator
from typing import Any

from physicsnemo.core.errors import CheckpointError

Record = dict[str, Any]
NESTED = "__physicsnemo.Module__"
MAX_NAME = 1_000  # characters of a class's name, a module's, or a key


def nested_records(arguments: Record) -> Iterator[tuple[str, Record]]:
    """Yield the records that stand beside the outer one, each with its key."""
    for key, value in arguments.items():
        if key.startswith(NESTED + "."):
            yield key, value


def check_records(arguments: Record, source: str) -> None:
    """Check that a file's outer record and those of nested models have their parts.

    Raises
    ------
    CheckpointError
        If one is not an object with ``__name__``, ``__module__`` and ``__args__``, or has a name
        that no class has.
    """
    for key, part in [("the top level", arguments), *nested_records(arguments)]:
        if not (
            isinstance(part, dict)
            and isinstance(part.get("__name__"), str)
            and isinstance(part.get("__module__"), str)
            and isinstance(part.get("__args__"), dict)
        ):
            raise CheckpointError(
                f"{source}: {key} must hold the texts __name__ and __module__ and the object "
                f"__args__"
            )
    check_names(arguments, source)


def check_names(arguments: Record, source: str, error: type[Exception] = CheckpointError) -> None:
    """Refuse names that no class has, and that take long to look up and to repeat."""
    records = [arguments, *(part for _, part in nested_records(arguments))]
    names = (part.get(key, "") for part in records for key in ("__name__", "__module__"))
    longest = max(map(len, (*arguments, *names)))
    if longest > MAX_NAME:
        raise error(f"{source} has a name of {longest} characters, at most {MAX_NAME} are read")


def metadata_key(key: str, name: str) -> str:
    """Return what a piece of metadata of the model with some key is called in a file."""
    return f"{key}.{name}" if key else name
