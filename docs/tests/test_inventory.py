# SPDX-License-Identifier: Apache-2.0
"""What the built site documents: every model, by the name that it is imported by."""

from pathlib import Path

from sphinx.util.inventory import InventoryFile

from physicsnemo.core.install.entry_points import shipped_models

SITE = Path(__file__).resolve().parents[1] / "_build"


def test_models_are_documented_by_the_names_that_users_import() -> None:
    inventory = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="")
    classes = inventory.data["py:class"]
    for name, shipped in shipped_models().items():
        assert classes[f"{shipped['module']}.{name}"].uri.startswith(f"models/cards/{name}.html#")
