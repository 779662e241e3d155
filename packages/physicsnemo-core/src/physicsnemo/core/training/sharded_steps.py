# SPDX-License-Identifier: Apache-2.0
"""Steps whose tensors each process writes for itself, at once or while the training goes on."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.container import write_checkpoint
from physicsnemo.core.format.files import Url
from physicsnemo.core.format.sharded import Deferred, GatheredState
from physicsnemo.core.pytree import map_tensors
from physicsnemo.core.ranks import Accord
from physicsnemo.core.rebuild.contents import contents
from physicsnemo.core.rebuild.weights import check_weights
from physicsnemo.core.training.folder import Folder
from physicsnemo.core.training.parts import MANIFEST, TRAINING, Part
from physicsnemo.core.training.shards import (
    INDEX,
    Shards,
    folders,
    new_folder,
    read_index,
    save_tensors,
    save_tensors_later,
    take_tensors,
    write_index,
)
from physicsnemo.core.training.state import OPTIMIZER, model_state, read_data, write_data
from physicsnemo.core.training.steps import Steps
from physicsnemo.models.module import Module

MODELS = "model_states"  # what of the states of models is no tensor
_saving: list["Saving"] = []


class Saving:
    """A step that is being saved while the training goes on."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self._finish, self._failure = finish, None  # type: Callable[[], None], Exception | None
        self._thread = Thread(target=self._run, name="physicsnemo-saving")
        self._thread.start()
        _saving.append(self)

    def wait(self) -> None:
        """Return when the step is saved.

        Raises
        ------
        CheckpointError
            If it could not be saved; the steps before are as they were.
        """
        self._thread.join()
        if self in _saving:
            _saving.remove(self)
        if self._failure is not None:
            raise CheckpointError(f"the step was not saved: {self._failure}") from self._failure

    @property
    def done(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._finish()
        except Exception as error:
            self._failure = error


def wait_for_saving() -> None:
    """Wait for the step that is being saved, if there is one; raises what :class:`Saving` does."""
    for saving in [*_saving]:
        saving.wait()


def write_shards(
    accord: Accord,
    steps: Steps,
    step: int,
    models: Mapping[Part, torch.nn.Module],
    training: dict[str, Any],
    metadata: dict[str, Any],
    wait: bool,
) -> Callable[[], None]:
    """Begin to write a step, and return what makes it appear; it is called in any thread.

    Raises
    ------
    CheckpointError
        If a process has failed, or the folder is not on a file system of this machine.
    """
    root = _local(steps.folder)
    states = {part.stem: model_state(model) for part, model in models.items()}
    tensors = take_tensors(states, training)
    records = {
        Part(part.stem, ".json"): dict(zip(("arguments", "metadata"), contents(model), strict=True))
        for part, model in models.items()
        if isinstance(model, Module)
    }
    held = ExitStack()  # the lock, until the step is there
    name = accord.gather(new_folder(step))[0]
    if accord.writes:
        steps.folder.make()
        clear(steps)
        held.enter_context(steps.folder.locked(f".{name}.lock"))
        (root / name).mkdir()
    try:
        accord.reach(f"step {step} of {', '.join(states)} with {len(tensors)} tensors")
        writers = {part: partial(_write_json, record) for part, record in records.items()}
        rest = training | {MODELS: states}
        if not wait:  # counters go on too
            rest = map_tensors(rest, torch.clone)
        writers |= {TRAINING: partial(write_data, rest), INDEX: partial(write_index, root / name)}
        if wait:
            save_tensors(tensors, root / name)
    except BaseException:
        held.close()
        raise
    pending: Callable[[], None] | None = None
    if not wait:
        pending = save_tensors_later(tensors, root / name)

    def finish() -> None:
        with held:
            if pending is not None:
                pending()
            if accord.writes:
                steps.write(step, writers, metadata, processes=1)
                clear(steps)

    return finish


def read_shards(
    steps: Steps,
    step: int,
    models: Mapping[Part, torch.nn.Module],
    optimizer: torch.optim.Optimizer | None,
    strict: bool,
) -> tuple[dict[str, Any], dict[Part, dict[str, Any]]]:
    """Return the state of a training and the weights of models, of what is sharded this part.

    Raises
    ------
    CheckpointError
        If the step is damaged, or something else than asked for.
    """
    shards, state = _opened(steps, step)
    weights: dict[Part, dict[str, Any]] = {}
    for part, model in models.items():
        if part.stem not in (kept := state.get(MODELS, {})):
            raise CheckpointError(
                f"step {step} in {steps.folder.url} has no model {part.stem}; it has "
                f"{', '.join(map(str, kept)) or 'none'}"
            )
        source = f"{part.stem} of step {step} in {steps.folder.url}"
        tensors = shards.read_model(part.stem, model)
        found = type(kept[part.stem])(kept[part.stem] | tensors)
        weights[part] = check_weights(model, found, strict, source)
    if optimizer is not None and isinstance(state.get(OPTIMIZER), dict):
        shards.read_optimizer(optimizer, state[OPTIMIZER])
    return state, weights


def merge(url: Url, target: Url, step: int | None = None, name: str | None = None) -> int:
    """Write a model of a sharded step as an ordinary ``.mdlus`` file, tensor by tensor.

    Parameters
    ----------
    url
        The folder of the training.
    target
        The file to write.
    step
        Number of the step, by default the largest of those that are sharded.
    name
        The model, where the step has several.

    Returns
    -------
    The number of the step.

    Raises
    ------
    CheckpointError
        If there is no such step or model.
    """
    steps = Steps(Folder(url), 0)
    sharded = sorted(it for it in steps.metadata() if steps.comprises(it, INDEX))
    if step not in sharded if step is not None else not sharded:
        found = ", ".join(map(str, sharded)) or "none"
        which = "steps" if step is None else f"step {step}"
        raise CheckpointError(
            f"{steps.folder.url} has no {which} of layout 'shards'; it has {found}"
        )
    step = sharded[-1] if step is None else step
    shards, state = _opened(steps, step)
    stems = [it for it in state[MODELS] if steps.comprises(step, Part(it, ".json"))]
    if name not in stems if name is not None else len(stems) != 1:
        found = ", ".join(stems) or "none"
        raise CheckpointError(f"say which model of step {step} to merge; it has {found}")
    stem = stems[0] if name is None else name
    record = json.loads(steps.folder.read(Part(stem, ".json").file(0, step)))
    kept = state[MODELS][stem]
    for key, outline in shards.below(stem).items():
        read = partial(_read_one, shards, f"{stem}/{key}", outline)
        kept[key] = Deferred(outline.shape, outline.dtype, read)
    write_checkpoint(target, GatheredState(kept), record["arguments"], record["metadata"])
    return step


def clear(steps: Steps) -> None:
    """Delete folders of shards that no step leads to and that nobody writes any more."""
    names = steps.folder.names()
    found = folders(names)
    used = set()
    for step in MANIFEST.steps(names, 0) & set(found.values()):
        if steps.comprises(step, INDEX):
            with steps.open(step, [INDEX]) as files:
                used.add(read_index(files[INDEX], steps.source(step, INDEX))[0])
    for name in found.keys() - used:
        if not steps.folder.in_use(f".{name}.lock", name):
            steps.folder.remove_folder(name)
            steps.folder.remove(f".{name}.lock")


def _opened(steps: Steps, step: int) -> tuple[Shards, dict[str, Any]]:
    source = f"step {step} in {steps.folder.url}"
    with steps.open(step, [INDEX, TRAINING]) as files:
        folder, sizes = read_index(files[INDEX], steps.source(step, INDEX))
        state = read_data(files[TRAINING], steps.source(step, TRAINING))
    if not isinstance(state.get(MODELS), dict):
        raise CheckpointError(f"{MODELS} in {source} is no dictionary")
    return Shards(_local(steps.folder) / folder, sizes, source), state


def _read_one(shards: Shards, key: str, outline: torch.Tensor) -> torch.Tensor:
    tensor = torch.empty(outline.shape, dtype=outline.dtype)
    shards.read({key: tensor})
    return tensor


def _local(folder: Folder) -> Path:
    if folder.local is None:
        raise CheckpointError(
            f"layout 'shards' needs a folder on a file system that all processes share, got "
            f"{folder.url}: save there and upload it, or use layout 'whole'"
        )
    return folder.local


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
