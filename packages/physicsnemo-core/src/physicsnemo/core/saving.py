# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says of a model besides its weights."""

import json
from typing import TYPE_CHECKING, Any

import importlib_metadata

from physicsnemo.core.absence import leave_out_implied
from physicsnemo.core.arguments import Record, encode
from physicsnemo.core.errors import PluginError
from physicsnemo.core.hooks import ask
from physicsnemo.core.origins import Origin, metadata_key

if TYPE_CHECKING:
    from physicsnemo.models.module import Module


def contents(model: "Module") -> tuple[Record, dict[str, Any]]:
    """Return ``args.json`` and ``metadata.json`` of a model.

    Raises
    ------
    TypeError
        If a constructor argument cannot be stored.
    PluginError
        If a plugin fails to contribute.
    """
    arguments, nested = encode(model)
    models = {"": model, **nested}
    records = {"": arguments, **{key: arguments[key] for key in nested}}
    release = importlib_metadata.version("physicsnemo-core")
    metadata: dict[str, Any] = {
        "physicsnemo_version": leave_out_implied(models, records, release),
        "written_by": f"physicsnemo-core {release}",
    }
    for key, part in models.items():
        metadata[metadata_key(key, "mdlus_file_version")] = part.__model_checkpoint_version__
        metadata |= Origin.of(type(part)).metadata(key)
    for plugin, contribution in ask("contribute_metadata", model=model):
        metadata |= _checked(contribution, metadata, plugin)
    return arguments, metadata


def _checked(contribution: Any, metadata: dict[str, Any], plugin: str) -> dict[str, Any]:
    """Raise PluginError unless a contribution is a JSON object with keys of its own."""
    try:
        json.dumps(contribution)
        taken = sorted(contribution.keys() & metadata.keys())
    except (TypeError, ValueError, AttributeError) as error:
        raise PluginError(
            f"{plugin}: contribute_metadata must return a dictionary that JSON can hold, "
            f"got {contribution!r}: {error}"
        ) from error
    if taken:
        raise PluginError(f"{plugin}: contribute_metadata may not replace {', '.join(taken)}")
    return contribution  # type: ignore[no-any-return]
