# SPDX-License-Identifier: Apache-2.0
"""Blueprint: the classes and arguments in a checkpoint, from which its model is constructed."""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any

from physicsnemo.core.base import ModelBase, bind
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import Checkpoint
from physicsnemo.core.format.records import NESTED, Record, metadata_key, nested_records
from physicsnemo.core.format.values import restore
from physicsnemo.core.history import order
from physicsnemo.core.install.provenance import Origin
from physicsnemo.core.rebuild.contents import ARGUMENT_TYPES, WRITER
from physicsnemo.core.rebuild.defaults import shown_by_arguments
from physicsnemo.core.rebuild.migration import migrate
from physicsnemo.core.rebuild.resolution import Trusted, resolve
from physicsnemo.core.releases import latest, release_of, shown_by_state

_LOGGER = logging.getLogger("physicsnemo.checkpoint")

Part = tuple[type[ModelBase], dict[str, Any]]


class Blueprint:
    """The classes and arguments of a checkpoint's model and of those nested in it.

    Each record is resolved to a class, its arguments are migrated from the file's version and
    overridden where the caller says so; all that once, however often the model is then built.

    Raises
    ------
    CheckpointError
        If a class is not found, or cannot read the version of the file.
    ValueError
        If an argument may not be overridden.

    Attributes
    ----------
    source
        The file's name, for error texts.
    of_this_library
        Whether the file says that this library wrote it, and no other implementation.
    evidence
        Which release of the reference implementation the file is like, and why.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        expected: type[ModelBase],
        overrides: Mapping[str, Any],
        trusted: Trusted,
    ) -> None:
        self.source = checkpoint.name
        self.of_this_library = str(checkpoint.metadata.get("written_by")).startswith(WRITER)
        records = _records(checkpoint)
        _check_paths(overrides, {_path(key) for key in records})
        self._checkpoint, self._overrides = checkpoint, overrides
        self._classes: dict[str, type[ModelBase]] = {}
        for key, part in records.items():
            origin = Origin.read(checkpoint.metadata, key)
            self._classes[key] = resolve(
                part, ModelBase if key else expected, trusted, self.source, origin
            )
        claimed = order(checkpoint.metadata.get("physicsnemo_version"))
        keys = () if claimed else checkpoint.outline()
        self.evidence = release_of(checkpoint.metadata, keys, checkpoint.is_zip, len(records) > 1)
        if not self.evidence.is_claimed:
            shown = (shown_by_arguments(self._classes[key], records[key]) for key in records)
            self.evidence = latest([self.evidence, *chain.from_iterable(shown)])
        self._parts = self._planned(records)

    def _planned(self, records: Mapping[str, Record]) -> dict[str, Part]:
        """Return class and arguments of each record, by the release that the file is like."""
        parts: dict[str, Part] = {}
        metadata = self._checkpoint.metadata
        for key, part in records.items():
            model_class = self._classes[key]
            types = metadata.get(metadata_key(key, ARGUMENT_TYPES))
            arguments = migrate(
                model_class,
                restore(part["__args__"], types, self.source),
                metadata,
                self.evidence.release,
                key,
                self.source,
            )
            _override(model_class, arguments, _at(self._overrides, _path(key)))
            parts[key] = model_class, arguments
        return parts

    def reconsider(self, model: ModelBase, keys: Collection[str]) -> bool:
        """Take a later release, if the file claims none and its state shows one.

        Parameters
        ----------
        model
            The model, built by this blueprint.
        keys
            Those of the file's state dict.

        Returns
        -------
        Whether the model has to be built again.
        """
        if self.evidence.is_claimed or not any(it._implied_args for it in self.model_classes):
            return False
        before, self.evidence = self.evidence, latest([self.evidence, *shown_by_state(model, keys)])
        text = "%s is read as a file of release %s of nvidia-physicsnemo, %s"
        _LOGGER.warning(text, self.source, self.evidence.release, self.evidence.reason)
        if self.evidence.release == before.release:
            return False
        with warnings.catch_warnings(action="ignore"):  # which have been given
            self._parts = self._planned(_records(self._checkpoint))
        return True

    @property
    def model_class(self) -> type[ModelBase]:
        """The class of the outermost model."""
        return self._parts[""][0]

    @property
    def model_classes(self) -> list[type[ModelBase]]:
        """The classes of all models in the file."""
        return [model_class for model_class, _ in self._parts.values()]

    def check_signatures(self) -> None:
        """Bind the arguments of every model to its class, without building any.

        Raises
        ------
        CheckpointError
            If they do not fit.
        """
        for key, (model_class, arguments) in self._parts.items():
            try:
                bind(model_class, arguments)
            except TypeError as error:
                what = f"{model_class.__name__}, {_path(key)}," if key else model_class.__name__
                raise CheckpointError(
                    f"{self.source}: the arguments of {what} do not fit its signature: {error}"
                ) from error

    def build(self) -> ModelBase:
        """Construct the model, and those nested in it where they are needed.

        Raises
        ------
        CheckpointError
            If the constructor refuses the arguments, or a model contains itself.
        """
        models: dict[str, ModelBase] = {}
        try:
            return self._build("", models, set())
        except CheckpointError:
            raise
        except Exception as error:  # whatever a constructor makes of its arguments
            raise CheckpointError(
                f"{self.source}: {self.model_class.__name__} cannot be built from the arguments "
                f"in the file: {type(error).__name__}: {error}"
            ) from error

    def _build(self, key: str, models: dict[str, ModelBase], unfinished: set[str]) -> ModelBase:
        if key in unfinished:
            raise CheckpointError(f"{key} in {self.source} contains itself")
        if key not in models:
            unfinished.add(key)
            model_class, arguments = self._parts[key]
            models[key] = construct(model_class, self._decode(arguments, models, unfinished))
            unfinished.remove(key)
        return models[key]

    def _decode(self, value: Any, models: dict[str, ModelBase], unfinished: set[str]) -> Any:
        """Put models where their keys stand, at any depth."""
        if isinstance(value, str) and value.startswith(NESTED) and value in self._parts:
            return self._build(value, models, unfinished)
        if type(value) in (list, tuple):
            return type(value)([self._decode(item, models, unfinished) for item in value])
        if type(value) in (dict, OrderedDict):
            items = [(name, self._decode(item, models, unfinished)) for name, item in value.items()]
            return type(value)(items)
        return value


def _records(checkpoint: Checkpoint) -> dict[str, Record]:
    return {**dict(nested_records(checkpoint.arguments)), "": checkpoint.arguments}


def construct(model_class: type[ModelBase], arguments: Mapping[str, Any]) -> ModelBase:
    """Call a class with recorded arguments."""
    bound = bind(model_class, arguments)
    return model_class(*bound.args[1:], **bound.kwargs)


def _path(key: str) -> str:
    return key.removeprefix(NESTED + ".")


def _at(overrides: Mapping[str, Any], path: str) -> dict[str, Any]:
    split = {key: key.rpartition(".") for key in overrides}
    return {split[key][2]: value for key, value in overrides.items() if split[key][0] == path}


def _check_paths(overrides: Mapping[str, Any], paths: set[str]) -> None:
    for key in overrides:
        path, _, name = key.rpartition(".")
        if not name.isidentifier() or path not in paths:
            raise ValueError(
                f"cannot override {key!r}: expected an argument's name, or the path of a nested "
                f"model and a name, as in 'inner.dropout'"
            )


def _override(
    model_class: type[ModelBase], arguments: dict[str, Any], overrides: dict[str, Any]
) -> None:
    for key, value in overrides.items():
        if key not in model_class._overridable_args:
            allowed = ", ".join(sorted(model_class._overridable_args)) or "none"
            raise ValueError(
                f"Argument '{key}' cannot be overridden for {model_class.__name__}; "
                f"it allows {allowed}"
            )
        if key not in arguments:
            warnings.warn(f"New argument '{key}' added to those of the file", stacklevel=5)
        arguments[key] = value
