# SPDX-License-Identifier: Apache-2.0
"""Saving a training so that it goes on exactly where it was.

A step of a training is a set of files: one for each model, one for the rest, and a manifest with
the sizes and digests of the others. It appears in the folder, and replaces an older step of the
same number, as one. A process that is killed while saving leaves the steps before as they were.
"""

import logging
import operator
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import LRScheduler

from physicsnemo import hooks
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.format.files import Url
from physicsnemo.core.format.sharded import is_sharded, is_sharded_model
from physicsnemo.core.ranks import Accord, Ranks
from physicsnemo.core.rebuild.rollback import rollback_on_failure
from physicsnemo.core.rebuild.together import Commit, write_together
from physicsnemo.core.rebuild.weights import customizes_state_dict, put_weights
from physicsnemo.core.training.folder import Folder
from physicsnemo.core.training.parts import TRAINING, Models, Part, name_parts
from physicsnemo.core.training.retention import Best, Retention
from physicsnemo.core.training.selection import next_step, read_step
from physicsnemo.core.training.serializable import check_json
from physicsnemo.core.training.sharded_steps import (
    Saving,
    clear,
    read_shards,
    wait_for_saving,
    write_shards,
)
from physicsnemo.core.training.shards import INDEX
from physicsnemo.core.training.state import (
    METADATA,
    OPTIMIZER,
    SCALER,
    SCHEDULER,
    Stateful,
    check_training,
    collect,
    model_state,
    move,
    placed_state,
    read_data,
    read_model,
    restore,
    restore_random,
    with_grad_scalers,
    write_data,
    write_model,
)
from physicsnemo.core.training.steps import Steps
from physicsnemo.models.module import Module

__all__ = ["get_checkpoint_dir", "load_checkpoint", "save_checkpoint"]

Layout = Literal["whole", "shards"]

_LOGGER = logging.getLogger("physicsnemo.checkpoint")


def save_checkpoint(
    path: Url,
    models: Models = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    epoch: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    keep_last: int | None = None,
    keep_best: Best | None = None,
    rank: int | None = None,
    layout: Layout = "whole",
    wait: bool = True,
) -> Saving | None:
    """Save a step of a training: all of it, or nothing.

    The states of the random numbers of Python, NumPy and PyTorch, there of the CPU and of the
    current GPU, and the gradient scalers of :class:`physicsnemo.utils.StaticCaptureTraining` are
    saved too.

    Parameters
    ----------
    path
        Folder, or any URL that fsspec knows; made if it does not exist.
    models
        One or several models. A :class:`physicsnemo.Module` goes to
        ``<metadata name>.<rank>.<epoch>.mdlus``, the weights of another one to
        ``<class name>.<rank>.<epoch>.pt``; models of one name are numbered in their order.
        Wrappers are looked through as by :func:`physicsnemo.utils.unwrap`.
    optimizer, scheduler, scaler
        What else has a state.
    epoch
        Number of the step, from 0; by default it counts on from the largest in the folder.
    metadata
        Numbers, text, lists and dictionaries to store with the step.
    keep_last
        Delete all but so many of the newest steps, those of the largest number. By default all are
        kept, or with ``keep_best`` one. Only steps with a manifest are ever deleted, and never the
        one just written.
    keep_best
        Name of a number in ``metadata``, and ``"min"`` or ``"max"``: which step to keep besides.
    rank
        Number in the names of the files, handled without regard to other processes. By default
        that of this process in ``torch.distributed`` where it is initialized; all of its processes
        must then save if ``epoch`` is left out or steps are to be deleted. What is sharded, as by
        ``fully_shard``, is saved by all processes together as that of rank 0, and loads on any
        number of them.
    layout
        ``"whole"``: ordinary files, whose sharded tensors are gathered one by one. ``"shards"``:
        each process writes its parts, in the layout of ``torch.distributed.checkpoint``, into a
        folder that all share; for models that take long to gather. ``physicsnemo merge`` makes a
        ``.mdlus`` file of such a step.
    wait
        Whether to return when the step is saved. Otherwise, with shards only, tensors are copied
        to the CPU and written while the training goes on; the next step that is saved or loaded
        waits for it.

    Returns
    -------
    With ``wait=False``, what to wait for.

    Raises
    ------
    TypeError
        If a state or the metadata hold something that is not data; the text names it.
    ValueError
        If the epoch is negative, or a model's or metric's name cannot be used.
    CheckpointError
        If a manifest in the folder is damaged, or another process has failed or does something
        else; no step is saved then.
    FileNotFoundError
        If the path is that of a file.
    PluginError
        If a plugin fails; one that is told of the save is so when all is done.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> save_checkpoint("memory://run", model, optimizer, epoch=7, metadata={"loss": 0.5})
    >>> found = {}
    >>> load_checkpoint("memory://run", model, optimizer, metadata_dict=found)
    7
    >>> found
    {'loss': 0.5}
    """
    parts, stateful = name_parts(models), _stateful(optimizer, scheduler, scaler)
    together = layout != "whole" or _is_sharded(parts.values(), stateful)
    accord = Accord(f"save a step to {os.fspath(path)}", together, rank)
    with accord.failing_together():
        wait_for_saving()
        retention, metadata = Retention(keep_last, keep_best), dict(metadata or {})
        retention.check(metadata)
        check_json(metadata, METADATA)
        _check_layout(layout, wait, together, rank)
        steps = Steps(Folder(path), accord.rank)
        step = next_step(steps, [*parts, TRAINING], accord) if epoch is None else _number(epoch)
        training = collect(stateful, step, metadata, accord)
        if layout == "shards":
            finish = write_shards(accord, steps, step, parts, training, metadata, wait)
        else:
            states = [*map(model_state, parts.values()), training]
            write = partial(_write, steps, step, parts, metadata, accord.processes)
            said = f"step {step} of {', '.join(part.stem for part in parts)}"
            write_together(accord, states, write, said)

        def conclude() -> None:
            if layout == "shards":
                finish()
                if wait:
                    accord.reach()
            _LOGGER.debug("saved step %d to %s", step, steps.folder.url)
            if not retention.keeps_all:
                # Nothing is deleted before every rank has the new step; which, the first one says.
                old = retention.to_delete(step, steps.metadata())
                _remove(steps, accord.gather(old)[0] if wait else old, accord.writes)

        if not wait:
            return Saving(conclude)
        conclude()
    if accord.writes:
        _tell_plugins("saved", parts, steps, step)
    return None


def load_checkpoint(
    path: Url,
    models: Models = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    epoch: int | None = None,
    metadata_dict: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    *,
    strict: bool = True,
    restore_random_state: bool = True,
    rank: int | None = None,
) -> int:
    """Load the newest complete step of a training, or a given one; never parts of two.

    All parts are checked before the first is loaded, and if one does not fit nevertheless, all is
    left as it was. Files are read as data only. A step that another process removes or replaces
    meanwhile is never mixed with what takes its place. A folder of the reference implementation,
    which has no manifests, is loaded from the newest step of which all parts asked for exist.

    Parameters
    ----------
    path
        Folder, or any URL that fsspec knows.
    models
        One or several models, as for :func:`save_checkpoint`; they stay on their devices.
    optimizer, scheduler, scaler
        What else to restore; what is left out is left as it is.
    epoch
        Number of the step, by default the largest.
    metadata_dict
        Is updated with the metadata of the step.
    device
        Device that the tensors of the files pass through on their way.
    strict
        Whether each file must hold exactly its model's weights.
    restore_random_state
        Whether random numbers go on as in the saved process, if its rank is this one's.
    rank
        Number in the names of the files, handled without regard to other processes. By default
        that of this process in ``torch.distributed`` where it is initialized; all of its processes
        must then load, and get the newest step that all of them have. A process takes the files of
        rank 0 where only rank 0 has any, and where fewer processes have saved the step; so what
        data-parallel training has saved loads on any number of processes.

    Returns
    -------
    The number of the step; 0, with a line in the log at level INFO, if there is none. Save the
    number of the epoch that comes next, ``epoch + 1``, to tell one that is done from none.

    Raises
    ------
    CheckpointError
        If the step is not there, or a part of it is missing, torn or not what is asked for; the
        text says which.
    FileNotFoundError
        If the path is that of a file.
    PluginError
        If a plugin fails when it is told, after all is loaded.
    """
    parts, stateful = name_parts(models), _stateful(optimizer, scheduler, scaler)
    needed = [*parts, TRAINING] if stateful or not parts else [*parts]
    wait_for_saving()
    ranks = Ranks.sharing_first(_is_sharded(parts.values(), stateful), rank)
    read = partial(_read, parts, stateful, needed, device, strict)
    steps, step, content = read_step(Folder(path), needed, epoch, ranks, read)
    if step is None or content is None:
        _LOGGER.info("there is no checkpoint in %s, nothing is loaded", steps.folder.url)
        return 0
    state, weights = content
    # Only code of a model itself can still fail: all else has been checked. A snapshot for the
    # rollback takes as much memory as the weights, so other models need none.
    custom = [part for part, model in parts.items() if customizes_state_dict(model)]
    snapshots = map(parts.__getitem__, custom), with_grad_scalers(stateful).values()
    with rollback_on_failure(*snapshots):
        restore(state, stateful, steps.source(step, TRAINING))
        for part in dict.fromkeys([*custom, *parts]):
            put_weights(parts[part], weights[part], strict, steps.source(step, part))
    if metadata_dict is not None:
        metadata_dict.update(state.get(METADATA, {}))
    if restore_random_state:
        restore_random(state, ranks, steps.rank)
    _tell_plugins("loaded", parts, steps, step)
    return step


def get_checkpoint_dir(base_dir: Url, model_name: str) -> str:
    """Return the folder ``<base_dir>/checkpoints_<model_name>``, of a path or a URL.

    Parameters
    ----------
    base_dir
        Path or URL of the folder that it lies in.
    model_name
        Any name.

    Examples
    --------
    >>> get_checkpoint_dir("s3://bucket/runs", "fno")
    's3://bucket/runs/checkpoints_fno'
    """
    return posixpath.join(os.fspath(base_dir), f"checkpoints_{model_name}")


def _stateful(
    optimizer: torch.optim.Optimizer | None,
    scheduler: LRScheduler | None,
    scaler: torch.amp.GradScaler | None,
) -> Stateful:
    given = {OPTIMIZER: optimizer, SCHEDULER: scheduler, SCALER: scaler}
    return {key: it for key, it in given.items() if it is not None}


def _read(
    parts: Mapping[Part, torch.nn.Module],
    stateful: Stateful,
    needed: Sequence[Part],
    device: torch.device | str,
    strict: bool,
    steps: Steps,
    step: int,
) -> tuple[dict[str, Any], dict[Part, dict[str, Any]]]:
    """Return the state of the training and the weights of each model, checked as far as can be."""
    if steps.comprises(step, INDEX):
        state, weights = read_shards(steps, step, parts, stateful.get(OPTIMIZER), strict)
        check_training(state, stateful, steps.source(step, TRAINING))
        return state, weights
    state = {}
    with steps.open(step, needed, optional=[TRAINING]) as files:
        if TRAINING in files:
            source = steps.source(step, TRAINING)
            state = read_data(files[TRAINING], source, _is_sharded(parts.values(), stateful))
            check_training(state, stateful, source)
            state |= {key: move(state[key], device) for key in stateful}
            if OPTIMIZER in stateful:
                state[OPTIMIZER] = placed_state(stateful[OPTIMIZER], state[OPTIMIZER])
        weights = {
            part: read_model(model, files[part], device, strict, steps.source(step, part))
            for part, model in parts.items()
        }
    return state, weights


def _write(
    steps: Steps,
    step: int,
    parts: Mapping[Part, torch.nn.Module],
    metadata: dict[str, Any],
    processes: int | None,
    states: Sequence[Any],
    commit: Commit,
) -> None:
    """Write the states of models, and of the training, as a step."""
    writers = {
        part: partial(write_model, model, state)
        for (part, model), state in zip(parts.items(), states, strict=False)
    }
    writers[TRAINING] = partial(write_data, states[-1])
    steps.write(step, writers, metadata, commit, processes)


def _remove(steps: Steps, old: Iterable[int], writes: bool) -> None:
    if writes:
        for step in old:
            steps.remove(step)
        if steps.folder.local is not None and steps.rank == 0:
            clear(steps)


def _check_layout(layout: str, wait: bool, together: bool, rank: int | None) -> None:
    if layout not in ("whole", "shards"):
        raise ValueError(f"expected layout 'whole' or 'shards', got {layout!r}")
    if not wait and layout == "whole":
        raise ValueError("wait=False needs layout='shards', whose files are written in a thread")
    if together and rank is not None:
        raise CheckpointError(
            f"a sharded model is saved by all processes together, as that of rank 0: leave "
            f"rank={rank} out"
        )


def _is_sharded(models: Iterable[torch.nn.Module], stateful: Stateful) -> bool:
    """Tell whether any tensors of a training are spread over processes."""
    groups = getattr(stateful.get(OPTIMIZER), "param_groups", [])
    tensors = (it for group in groups for it in group["params"])
    return any(map(is_sharded_model, models)) or any(map(is_sharded, tensors))


def _tell_plugins(
    hook: str, parts: Mapping[Part, torch.nn.Module], steps: Steps, step: int
) -> None:
    for part, model in parts.items():
        if isinstance(model, Module):
            hooks.notify(hook, model=model, url=steps.folder.url_of(part.file(steps.rank, step)))


def _number(epoch: int) -> int:
    if operator.index(epoch) < 0:
        raise ValueError(f"epoch must be 0 or larger, got {epoch}")
    return operator.index(epoch)
