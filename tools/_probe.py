# SPDX-License-Identifier: Apache-2.0
"""Runs inside an environment under test, so it needs nothing but ``physicsnemo``.

Its argument is a JSON object: ``modules`` to import, ``models`` that the registry must list (these
and no other), ``cases`` files whose first case must run, and ``missing`` models with the
distribution that the error must name.
"""

import json
import runpy
import sys
from collections.abc import Mapping
from importlib import import_module


def main(
    modules: list[str], models: list[str], cases: list[str], missing: Mapping[str, str]
) -> None:
    """Check everything, and leave with a message where something is wrong."""
    for module in modules:
        import_module(module)
    from physicsnemo.registry import ModelRegistry

    listed = ModelRegistry().list_models()
    if listed != models:
        sys.exit(f"expected the registry to list {models}, got {listed}")
    for path in cases:
        case = runpy.run_path(path)["CASES"][0]
        case.build()(*case.inputs())
    for name, distribution in missing.items():
        try:
            found = ModelRegistry().factory(name)
        except KeyError as error:
            if f"pip install {distribution}" not in str(error):
                sys.exit(f"the error for {name} does not name {distribution}: {error}")
        else:
            sys.exit(f"{name} is not installed, yet the registry returned {found}")


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
