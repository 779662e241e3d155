# SPDX-License-Identifier: Apache-2.0
"""Runs inside an environment under test, so it needs nothing but ``physicsnemo``.

Its argument is a JSON object: ``versions`` that distributions must have, and ``misfits``, a text
that the registry must say of each of some models, in a warning or in an error.
"""

import json
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version

NOTHING: Mapping[str, str] = {}


def main(versions: Mapping[str, str] = NOTHING, misfits: Mapping[str, str] = NOTHING) -> None:
    """Check everything, and leave with a message where something is wrong."""
    found = {name: version(name) for name in versions}
    if found != versions:
        sys.exit(f"expected the versions {versions}, got {found}")
    from physicsnemo.registry import ModelRegistry

    if lost := misfits.keys() - set(ModelRegistry().list_models()):
        sys.exit(f"the registry does not list {sorted(lost)}")
    for model, text in misfits.items():
        said = what_is_said_of(model)
        if not any(text in it for it in said):
            sys.exit(f"expected the registry to say of {model}: {text}; got {said or 'nothing'}")


def what_is_said_of(model: str) -> list[str]:
    """Return the warnings that asking for a model gives, or the error."""
    from physicsnemo.registry import ModelRegistry

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ModelRegistry().factory(model)
        except ImportError as error:
            return [str(error)]
    return [str(warning.message) for warning in caught]


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
