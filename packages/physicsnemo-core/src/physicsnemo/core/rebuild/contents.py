# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds of a model."""

import json
from typing import Any, NamedTuple

import torch

from physicsnemo import hooks
from physicsnemo.core.base import ModelBase, class_of, record_of
from physicsnemo.core.errors import CheckpointError, PluginError
from physicsnemo.core.format.records import NESTED, Record, metadata_key
from physicsnemo.core.format.storable import check_storable
from physicsnemo.core.format.values import Path, Types, write
from physicsnemo.core.install.distributions import installed_version
from physicsnemo.core.install.provenance import Origin
from physicsnemo.core.rebuild.defaults import convert_to_release, omit_implied_defaults
from physicsnemo.core.rebuild.weights import customizes_loading
from physicsnemo.core.releases import to_release_keys

WRITER, ARGUMENT_TYPES = "physicsnemo-core", "argument_types"


def contents(model: ModelBase, for_release: str | None = None) -> tuple[Record, dict[str, Any]]:
    """Return ``args.json`` and ``metadata.json`` of a model.

    Parameters
    ----------
    model
        The model.
    for_release
        The release of the reference implementation that is to read them, if it matters.

    Raises
    ------
    TypeError
        If a constructor argument cannot be stored.
    ValueError
        If one cannot be said in a file of that release.
    PluginError
        If a plugin fails to contribute.
    """
    arguments, nested, types = encode(model)
    models = {"": model, **nested}
    records = {"": arguments, **{key: arguments[key] for key in nested}}
    release = installed_version(WRITER) or "unknown"
    if for_release is None:
        claim = omit_implied_defaults(models, records, release)
    else:
        convert_to_release(models, records, for_release)
        claim = f"{for_release}.0"
    metadata: dict[str, Any] = {
        "physicsnemo_version": claim,
        "written_by": f"{WRITER} {release}",
    }
    for key, part in models.items():
        metadata[metadata_key(key, "mdlus_file_version")] = part.__model_checkpoint_version__
        metadata |= Origin.of(class_of(part)).metadata(key)
        if types[key]:
            metadata[metadata_key(key, ARGUMENT_TYPES)] = types[key]
    for plugin, contribution in hooks.call("contribute_metadata", model=model):
        metadata |= _checked(contribution, metadata, plugin)
    return arguments, metadata


def state_of(model: torch.nn.Module, for_release: str | None = None) -> dict[str, Any]:
    """Return a model's state dict as a file is to hold it, that a given release reads if any.

    Values that are no tensors and that ``load_state_dict`` would not read, which some packages add
    for files of their own, are left out.

    Raises
    ------
    TypeError
        If a file cannot hold a value, as with shards of a distributed model; the text names it.
    CheckpointError
        If FSDP1, ``FullyShardedDataParallel``, has the model's parameters.
    """
    if any(getattr(parameter, "_fsdp_flattened", False) for parameter in model.parameters()):
        name = class_of(model).__name__
        raise CheckpointError(
            f"this process has but slices of {name}'s parameters, since it is wrapped in "
            f"FullyShardedDataParallel: use fully_shard in its place, or save another {name} that "
            f"has loaded the wrapper's state_dict()"
        )
    own = (*model.named_parameters(), *model.named_buffers())
    # Those without sizes come first, since not every module can make a state dict of them.
    lazy = {name: tensor for name, tensor in own if torch.nn.parameter.is_lazy(tensor)}
    check_storable(lazy, class_of(model).__name__)
    state: dict[str, Any] = model.state_dict()
    for key in [key for key, value in state.items() if not isinstance(value, torch.Tensor)]:
        if not _reads(model, key):
            del state[key]
    check_storable(state, class_of(model).__name__)
    return state if for_release is None else to_release_keys(model, state, for_release)


def _reads(model: torch.nn.Module, key: str) -> bool:
    """Tell whether loading a state dict reads a key that is not that of a tensor."""
    path, _, name = key.rpartition(".")
    if name == "_extra_state" or type(model).load_state_dict is not torch.nn.Module.load_state_dict:
        return True
    modules = dict(model.named_modules(remove_duplicate=False))
    above = {"", path, *(path[:place] for place, letter in enumerate(path) if letter == ".")}
    return any(customizes_loading(modules[prefix]) for prefix in above if prefix in modules)


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


class Encoded(NamedTuple):
    """A model's arguments as files hold them.

    Parameters
    ----------
    arguments
        The record, and beside it those of the models nested in it.
    models
        The nested models by their keys.
    types
        For each model, by its key, what JSON does not tell of its arguments' types.
    """

    arguments: Record
    models: dict[str, ModelBase]
    types: dict[str, Types]


def encode(model: ModelBase) -> Encoded:
    """Return a model's record as JSON can hold it, and what belongs to it.

    Raises
    ------
    TypeError
        If an argument is neither a JSON value nor a model; it is named by its path.
    """
    encoder = _Encoder()
    encoded = encoder.record(model, "", ())
    return Encoded({**encoded, **encoder.records}, encoder.models, encoder.types)


class _Encoder:
    """One walk through a record; collects nested models and their records, outer before inner."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.models: dict[str, ModelBase] = {}
        self.types: dict[str, Types] = {}

    def record(self, model: ModelBase, key: str, path: Path) -> Record:
        own, types = record_of(model), self.types.setdefault(key, {})
        arguments = {
            name: write(
                value,
                (name,),
                own["__name__"],
                types,
                lambda found, below: self.nested(found, path + below),
            )
            for name, value in own["__args__"].items()
        }
        return {**own, "__args__": arguments}

    def nested(self, model: Any, path: Path) -> str | None:
        if not isinstance(model, ModelBase):
            return None
        for key, known in self.models.items():
            if known is model:
                return key
        key = f"{NESTED}.{'.'.join(path)}"
        self.models[key] = model
        self.records[key] = {}
        self.records[key] = self.record(model, key, path)
        return key
