# SPDX-License-Identifier: Apache-2.0
"""The tensors of a step in the layout of ``torch.distributed.checkpoint`` (DCP).

Each process writes what it has into one folder, which is an ordinary checkpoint of DCP; the step's
index names the folder and the size of each file in it. Nobody reads a folder that no manifest leads
to, so it need not appear at once. The rest of a step is written as ever: plain values, and for each
model what a ``.mdlus`` file holds besides weights.
"""

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import torch
import torch.distributed as dist

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.sharded import is_sharded
from physicsnemo.core.training.parts import Part
from physicsnemo.core.training.state import OPTIMIZER

INDEX = Part("shards", ".json")
_OPTIMIZER = "optimizer"

Tensors = dict[str, torch.Tensor]


def new_folder(step: int) -> str:
    """Return a name that no other step, and no other writing of this one, has."""
    return f"shards.0.{step}.{uuid4().hex}"


def folders(names: Iterable[str]) -> dict[str, int]:
    """Return the folders of shards among some names, each with its step."""
    found = (re.fullmatch(r"shards\.0\.([0-9]+)\.[0-9a-f]{32}", name) for name in names)
    return {match[0]: int(match[1]) for match in found if match}


def take_tensors(states: Mapping[str, dict[str, Any]], training: dict[str, Any]) -> Tensors:
    """Take the tensors out of the states of models and of a training.

    Parameters
    ----------
    states
        The state of each model by the stem of its part; None stands where a tensor was.
    training
        The state of the training; single numbers stay in that of the optimizer.
    """
    tensors: Tensors = {}
    for stem, state in states.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{stem}/{key}"], state[key] = value, None
    if OPTIMIZER in training:
        kept: dict[Any, dict[str, Any]] = {}
        for place, values in training[OPTIMIZER].get("state", {}).items():
            kept[place] = {key: it for key, it in values.items() if not _is_large(it)}
            for key in values.keys() - kept[place].keys():
                tensors[f"{_OPTIMIZER}/{place}/{key}"] = values[key]
        training[OPTIMIZER] = {**training[OPTIMIZER], "state": kept}
    return tensors


def save_tensors(tensors: Tensors, folder: Path) -> None:
    """Write this process's parts of tensors, together with all others."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    with _quiet():
        save(tensors, storage_writer=FileSystemWriter(folder), no_dist=not dist.is_initialized())


def save_tensors_later(tensors: Tensors, folder: Path) -> Callable[[], None]:
    """Copy tensors to the CPU, and write them in another thread; return what waits for that."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import async_save

    if not dist.is_initialized():
        return partial(save_tensors, {key: it.cpu().clone() for key, it in tensors.items()}, folder)
    with _quiet():
        future: Any = async_save(
            tensors, storage_writer=FileSystemWriter(folder), process_group=_group()
        )
    return lambda: future.result()


def write_index(folder: Path, path: Path) -> None:
    """Write down a folder and what is in it."""
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    path.write_text(json.dumps({"folder": folder.name, "files": files}), encoding="utf-8")


def read_index(file: BinaryIO, source: str) -> tuple[str, dict[str, int]]:
    """Return the name of a folder and the sizes of its files.

    Raises
    ------
    CheckpointError
        If the index is damaged.
    """
    try:
        content = json.loads(file.read())
        folder, files = content["folder"], {str(k): int(v) for k, v in content["files"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{source} is damaged: {error!r}") from error
    if not (isinstance(folder, str) and folder.startswith("shards.0.") and "/" not in folder):
        raise CheckpointError(f"{source} is damaged: {folder!r} is not the name of its folder")
    return folder, files


class Shards:
    """The tensors of a step, described and read on demand; nothing in them is executed.

    Parameters
    ----------
    folder
        Where they are.
    files
        The size of each file, which is compared.
    source
        What to call the step in error texts.

    Raises
    ------
    CheckpointError
        If a file is missing, or of another size.
    """

    def __init__(self, folder: Path, files: Mapping[str, int], source: str) -> None:
        self._folder, self._source = folder, source
        for name, size in files.items():
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise CheckpointError(
                    f"{path} of {source} is torn or was changed: expected {size} bytes, got {found}"
                )
        try:
            with open(folder / ".metadata", "rb") as file:
                self._metadata = _Unpickler(file).load()
            self.outline = {
                key: torch.empty(it.size, dtype=it.properties.dtype, device="meta")
                for key, it in self._metadata.state_dict_metadata.items()
            }
        except Exception as error:  # damage shows as many types
            raise CheckpointError(f"{folder} of {source} cannot be read: {error!r}") from error

    def below(self, stem: str) -> Tensors:
        """Return the tensors of a model on the meta device, by its own keys."""
        prefix = f"{stem}/"
        own = {key: it for key, it in self.outline.items() if key.startswith(prefix)}
        return {key.removeprefix(prefix): it for key, it in own.items()}

    def read_model(self, stem: str, model: torch.nn.Module) -> Tensors:
        """Read the weights of a model: of its sharded tensors, this process's parts."""
        like = model.state_dict()
        wanted = {
            f"{stem}/{key}": _empty(it, like.get(key)) for key, it in self.below(stem).items()
        }
        self.read(wanted)
        return {key.removeprefix(f"{stem}/"): tensor for key, tensor in wanted.items()}

    def read_optimizer(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Put an optimizer's tensors into its state, sharded as its parameters are."""
        parameters = [it for group in optimizer.param_groups for it in group["params"]]
        wanted: Tensors = {}
        for key, it in self.below(_OPTIMIZER).items():
            number = int(key.partition("/")[0])
            own = parameters[number] if number < len(parameters) else None
            wanted[f"{_OPTIMIZER}/{key}"] = _empty(it, own)
        self.read(wanted)
        for key, tensor in wanted.items():
            _, place, name = key.split("/", 2)
            state["state"].setdefault(int(place), {})[name] = tensor

    def read(self, tensors: Tensors) -> None:
        """Fill tensors, of which this process may have parts.

        Raises
        ------
        CheckpointError
            If they cannot be read.
        """
        from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
        from torch.distributed.checkpoint.filesystem import FileSystemReader
        from torch.distributed.checkpoint.state_dict_loader import load

        metadata = self._metadata

        class Reader(FileSystemReader):
            def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
                return metadata

        class Planner(DefaultLoadPlanner):
            def load_bytes(self, read_item: Any, value: Any) -> None:
                raise ValueError("it holds more than tensors")

        try:
            with _quiet():
                load(tensors, storage_reader=Reader(self._folder), planner=Planner(), no_dist=True)
        except Exception as error:
            raise CheckpointError(
                f"{self._folder} of {self._source} cannot be read: {error!r}"
            ) from error


class _Unpickler(pickle.Unpickler):
    """Reads the description of a checkpoint of DCP, and no other classes."""

    _DESCRIPTIONS = (
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    )
    _NAMES = frozenset(
        {
            *(("torch.distributed.checkpoint.metadata", name) for name in _DESCRIPTIONS),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("torch.serialization", "_get_layout"),
            ("torch", "Size"),
            ("pathlib", "PosixPath"),
            ("pathlib", "WindowsPath"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in self._NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a description")
        return super().find_class(module, name)


def _empty(outline: torch.Tensor, own: Any) -> torch.Tensor:
    """Return memory for a tensor: for this process's part if another one like it is sharded."""
    if is_sharded(own) and own.shape == outline.shape:
        return torch.empty_like(own.detach(), dtype=outline.dtype)
    return torch.empty(outline.shape, dtype=outline.dtype)


def _is_large(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0


_groups: dict[int, dist.ProcessGroup] = {}


def _group() -> dist.ProcessGroup:
    """Return a group for writing, apart from that of the training that goes on meanwhile."""
    world = id(dist.group.WORLD)
    if world not in _groups:
        _groups[world] = dist.new_group(backend="gloo")
    return _groups[world]


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what PyTorch warns of: that it works alone, or on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
