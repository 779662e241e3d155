# SPDX-License-Identifier: Apache-2.0
"""The base class of all models."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch

from physicsnemo import hooks
from physicsnemo.core.base import ModelBase, logger_of
from physicsnemo.core.format.container import EXTENSION, open_checkpoint, write_checkpoint
from physicsnemo.core.format.files import Url
from physicsnemo.core.format.records import Record
from physicsnemo.core.format.sharded import is_sharded_model
from physicsnemo.core.history import order
from physicsnemo.core.ranks import Accord
from physicsnemo.core.rebuild.blueprint import Blueprint, construct
from physicsnemo.core.rebuild.build import load_model
from physicsnemo.core.rebuild.constants import missing_constants, restore_constants
from physicsnemo.core.rebuild.contents import contents, state_of
from physicsnemo.core.rebuild.conversion import convert
from physicsnemo.core.rebuild.example import Inputs, make_example
from physicsnemo.core.rebuild.resolution import Trusted, resolve
from physicsnemo.core.rebuild.together import Commit, write_together
from physicsnemo.core.rebuild.weights import copy_weights, moved
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.registry import ModelRegistry

__all__ = ["Module"]


class Module(ModelBase):
    """A ``torch.nn.Module`` that remembers how it was built, and so can be saved and rebuilt.

    It replaces ``torch.nn.Module`` as a base class without further changes. To be saved, a model
    must be constructed from what JSON can hold (numbers, text, lists, dictionaries, ``None``) or
    from other models.

    Parameters
    ----------
    meta
        What the model supports.

    Attributes
    ----------
    device_buffer
        An empty buffer that follows the model from device to device; part of the file format.

    Examples
    --------
    >>> import torch
    >>> class Scale(Module):
    ...     def __init__(self, size, start=1.0):
    ...         super().__init__()
    ...         self.weight = torch.nn.Parameter(torch.full((size,), start))
    ...     def forward(self, x):
    ...         return self.weight * x
    >>> Scale(3).num_parameters()
    3
    """

    def save(
        self,
        file_name: Url | None = None,
        verbose: bool = False,
        *,
        for_release: str | None = None,
        example: Inputs | None = None,
    ) -> None:
        """Save weights, constructor arguments and versions to a ``.mdlus`` file.

        The file appears whole or not at all; an older file of that name survives a failure to write
        it. Hooks of plugins are notified once the new file is complete, so an error of theirs
        leaves that one.

        A model that is sharded over processes, as by ``fully_shard``, is saved by all of them
        together: its tensors are gathered one by one, and the first process writes the same file
        as ever. What fails in one process fails in all.

        Parameters
        ----------
        file_name
            A path or any URL that fsspec knows, by default ``<name>.mdlus`` in the working
            folder, where name is that of the metadata, else of the class.
        verbose
            Also record the git commit of the working folder.
        for_release
            The release of nvidia-physicsnemo that is to read the file, as in ``"1.2"`` or
            ``"2.2"``: its container, class path, arguments and keys. By default the file is one
            that 1.2 reads where the arguments allow it.
        example
            Inputs of the model, in a tuple, or by name in a dictionary: tensors and what JSON
            holds. They are stored with what the model makes of them in evaluation mode, for
            ``physicsnemo verify`` to compare. A model that is loaded and saved again has no example
            but one that is passed anew.

        Raises
        ------
        ValueError
            If the name does not end in ``.mdlus``, there is no such release, or an argument cannot
            be said in its files; the text names it.
        TypeError
            If a constructor argument, a value of the state dict, or an input or output of the
            example cannot be stored, as with graphs; the text names it, and nothing is written.
        CheckpointError
            If the model is sharded, and another process has failed, saves something else or does
            not save at all; or if it is sharded by ``FullyShardedDataParallel`` (FSDP1), whose
            slices of parameters cannot be gathered here.
        """
        file_name = f"{self._name}{EXTENSION}" if file_name is None else file_name
        accord = Accord(f"save {os.fspath(file_name)}", is_sharded_model(self))
        with accord.failing_together():
            if not os.fspath(file_name).endswith(EXTENSION):
                raise ValueError(
                    f"File name must end with {EXTENSION}, got {os.fspath(file_name)!r}; for "
                    f"weights alone use torch.save(model.state_dict(), ...)"
                )
            if for_release is not None and not re.fullmatch(r"[1-9]\d?\.\d{1,2}", for_release):
                raise ValueError(f"expected a release such as '1.2' or '2.2', got {for_release!r}")
            arguments, metadata = contents(self, for_release)
            if verbose:
                metadata["git_hash"] = _git_commit()
            as_zip = order(for_release) >= (2, 0)  # from which on the reference writes zips
            state = state_of(self, for_release)
            said = f"{os.fspath(file_name)} with {len(state)} tensors"
            accord.reach(said)
            made = None if example is None else make_example(self, example)

            def write(states: Sequence[Any], commit: Commit) -> None:
                write_checkpoint(file_name, states[0], arguments, metadata, as_zip, made, commit)

            write_together(accord, [state], write, said)
        if accord.writes:
            hooks.notify("saved", model=self, url=file_name)
        logger_of(self).debug("saved %s", os.fspath(file_name))

    def to_empty(self, *, device: torch.device | str | int | None, recurse: bool = True) -> Self:
        """Move to a device without copying, as PyTorch does; then make constants again.

        Parameters and buffers have no numbers until they are loaded. Buffers that are in no file
        (``persistent=False``) and that were on the meta device get those that the constructor
        gives them, by calling it once more, with the same arguments.

        Parameters
        ----------
        device
            The device.
        recurse
            Whether submodules move too.
        """
        missing = missing_constants(self) if recurse else []
        super().to_empty(device=device, recurse=recurse)
        with torch.no_grad():
            restore_constants(self, missing)
        return self

    def load(
        self,
        file_name: Url,
        map_location: torch.device | str | None = None,
        strict: bool = True,
    ) -> None:
        """Load the weights of a ``.mdlus`` file into this model.

        Parameters
        ----------
        file_name
            A path or any URL that fsspec knows.
        map_location
            A device that the weights pass through; by default they go straight to the model's.
        strict
            Whether the file must hold exactly this model's weights.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CheckpointError
            If it is damaged, or its weights are not this model's.
        """
        with open_checkpoint(file_name) as checkpoint:
            # Of a sharded model, each process reads its own part.
            state = checkpoint.state_dict(mmap=is_sharded_model(self))
            if map_location is not None:
                state = moved(state, map_location)
            copy_weights(self, state, strict, checkpoint.name)
        hooks.notify("loaded", model=self, url=file_name)

    @classmethod
    def from_checkpoint(
        cls,
        file_name: Url,
        override_args: Mapping[str, Any] | None = None,
        strict: bool = True,
        *,
        map_location: torch.device | str = "cpu",
        trusted: Trusted = (),
        mmap: bool = False,
    ) -> Self:
        """Build the model that a ``.mdlus`` file holds, of this class or a subclass.

        Nothing is executed or imported because the file says so: the class is one that is
        already imported, a registered one, or one that is passed as trusted.

        Parameters
        ----------
        file_name
            A path or any URL that fsspec knows.
        override_args
            Constructor arguments to replace, of those that the class allows; those of a nested
            model by path, as in ``{"inner.dropout": 0.1}``.
        strict
            Whether the file must hold exactly the model's weights.
        map_location
            Where the model is put, by default on the CPU.
        trusted
            Modules and classes to look the class up in, besides the registry and what is imported.
        mmap
            Whether weights stay in the file, mapped into memory, until they are used. Loading is
            then quicker, and processes share what they only read; but a file that is written over
            in place, as by ``cp``, changes the model, and one that is cut off kills the process.
            By default the model owns its weights.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CheckpointError
            If it is damaged, of a version that the class cannot read, or names a class that is
            not found.
        ValueError
            If an argument may not be overridden.
        """
        with open_checkpoint(file_name) as checkpoint:
            blueprint = Blueprint(checkpoint, cls, override_args or {}, trusted)
            model: Any = load_model(blueprint, checkpoint, strict, mmap)
        model.to(map_location)
        hooks.notify("loaded", model=model, url=file_name)
        return cast(Self, model)

    @classmethod
    def instantiate(cls, arg_dict: Record) -> "Module":
        """Build a model from a record of its class and arguments.

        Parameters
        ----------
        arg_dict
            A dictionary with ``__name__``, ``__module__`` and ``__args__``, as in ``args.json``.

        Examples
        --------
        >>> from physicsnemo import Module
        >>> class Tiny(Module):
        ...     def __init__(self, size):
        ...         super().__init__()
        >>> record = {"__name__": "Tiny", "__module__": Tiny.__module__, "__args__": {"size": 2}}
        >>> type(Tiny.instantiate(record)) is Tiny
        True
        """
        model: Any = construct(resolve(arg_dict, cls), arg_dict["__args__"])
        return cast(Module, model)

    @staticmethod
    def from_torch(
        torch_model_class: type[torch.nn.Module],
        meta: ModelMetaData | None = None,
        register: bool = False,
        *,
        name: str | None = None,
    ) -> type[Any]:
        """Make a model class of a plain PyTorch class.

        Parameters
        ----------
        torch_model_class
            The class; its constructor's and its forward's arguments are kept.
        meta
            What the model supports.
        register
            Whether to register the new class in the model registry.
        name
            What the new class is called, by default ``<name>PhysicsNeMoModel``. Files name it, so
            two classes of one name from one function need names of their own.

        Returns
        -------
        The class, the same one each time. Its weights are named ``inner_model.*``; attributes and
        methods that it lacks are those of the PyTorch model in it.

        Raises
        ------
        TypeError
            If ``torch_model_class`` is not a subclass of ``torch.nn.Module``.
        """
        model_class = convert(Module, torch_model_class, meta, name)
        if register:
            ModelRegistry().register(model_class)
        return model_class

    from_pytorch = from_torch


def _git_commit() -> str | None:
    """Return the commit of the working folder's repository, None where there is none."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    except FileNotFoundError:  # git is not installed
        return None
    return found.stdout.strip() or None
