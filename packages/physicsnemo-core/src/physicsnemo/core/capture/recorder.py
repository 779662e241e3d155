# SPDX-License-Identifier: Apache-2.0
"""Recorder: calls that run eagerly at first, then are recorded as a CUDA graph and replayed.

A recording serves a call only if the call has the same

- pytree of arguments, whose leaves have the same metadata: all but the values of tensors and the
  states of generators;
- key of the step program: for training, the optimizer's settings and the place in an accumulation;
- guard state: what the step reads besides its arguments (see ``guards``).

The three make a cache entry. A call that fits none begins another, with a warm-up and a recording
of its own. Within an entry, a call is recorded again if what the recording uses is gone: the
optimizer's state was replaced (``StepProgram.is_outdated``), or an argument that was read in place
lies elsewhere (``Recording.fits``).
"""

import logging
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Number
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from physicsnemo.core.capture.convolutions import convolution_search
from physicsnemo.core.capture.dependency_scan import CODE_TYPES, CONSTANT_TYPES, is_foreign
from physicsnemo.core.capture.fully_sharded import ShardedUnits
from physicsnemo.core.capture.graphs import GraphPool, Recording
from physicsnemo.core.capture.guards import Guards, GuardState
from physicsnemo.core.capture.identity import IdentityKey
from physicsnemo.core.capture.options import Options
from physicsnemo.core.capture.replay_check import HostRNGState, ReplayCheck
from physicsnemo.core.capture.step_program import StepProgram
from physicsnemo.core.capture.summaries import leaf_metadata
from physicsnemo.core.pytree import flatten, map_leaves, map_tensors, named_leaves

_MAX_ENTRIES = 16
_MANY_MISSES = 16
_FEW_MISSES = 4

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

Kind = tuple[Hashable, tuple[Any, ...], bool]
"""Spec of the arguments' pytree, the metadata of each leaf, and whether gradients are on."""


@dataclass(eq=False)
class CacheEntry:
    """Cache entry: calls that one recording serves.

    Attributes
    ----------
    key, guard_state
        What these calls have in common.
    calls
        Number of warm-up calls so far.
    addresses
        Where the tensors among the arguments of the last warm-up call lie.
    may_share
        Whether tensors that come from the same address twice may be read in place.
    recording
        What to replay, once it is made.
    reason
        Why it cannot be made, if so.
    """

    key: tuple[Kind, Hashable]
    guard_state: GuardState
    calls: int = 0
    addresses: Sequence[int] = ()
    may_share: bool = True
    recording: Recording | None = None
    reason: str | None = None


class Recorder:
    """Call a step program eagerly at first, then record it once and replay the recording.

    The warm-up calls are the caller's own, so nothing runs that was not asked for. At most sixteen
    cache entries are kept, and the least recently used is dropped. What cannot be recorded runs
    eagerly from then on, and the logger tells why.

    Parameters
    ----------
    program
        What a call does.
    guards
        What its function depends on besides its arguments.
    units
        What of the model is sharded.
    device
        The CUDA device of the model.
    options
        Number of warm-up calls, at least one, and of first replays to check; and whether the step
        is to be compiled, and so may search for algorithms of convolutions as well.
    logger
        Where recordings, and reasons not to record, are reported.

    Attributes
    ----------
    replays
        Number of calls so far that replayed a recording.
    """

    def __init__(
        self,
        program: StepProgram,
        guards: Guards,
        *,
        units: ShardedUnits,
        device: torch.device,
        options: Options,
        logger: logging.Logger,
    ) -> None:
        self._program, self._guards, self._units, self._logger = program, guards, units, logger
        self._device, self._pool = device, GraphPool.of(device)
        self._warmup = max(1, options.cuda_graph_warmup)
        self._replays_to_check = options.checked_replays
        # It takes seconds, as compiling does, which few calls would not make up for.
        self._searches = bool(options.compile)
        self._entries: list[CacheEntry] = []  # the most recently used last
        self._kind: Kind | None = None
        self._misses = 0
        self._said: set[str] = set()
        self.replays = 0
        _RECORDERS.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Warm up, record or replay; which one depends on the calls before."""
        self._units.reshard()
        arguments: Arguments = (args, kwargs)
        leaves: list[Any] = []
        kind = self._kind_of(arguments, leaves)
        if kind is None:
            return self._run(arguments)
        entry = self._lookup((kind, self._program.key()), arguments)
        self._drop_outdated(entry, leaves)
        if entry.recording is None:
            if entry.reason is not None or entry.calls < self._warmup:
                return self._warm_up(entry, arguments, leaves)
            if not self._program.may_record():
                return self._run(arguments)
            entry.recording = self._record(entry, arguments, leaves)
        if entry.recording is None:
            return self._run_instead(entry, arguments)
        return self._replay(entry.recording, arguments, leaves)

    def release(self) -> None:
        """Give back all recordings; calls warm up again, and are recorded again."""
        self._entries.clear()

    def _kind_of(self, arguments: Arguments, leaves: list[Any]) -> Kind | None:
        """Add the leaves of arguments; return their kind, or None if they cannot be recorded."""
        spec = flatten(arguments, leaves)
        kind = (spec, tuple(map(leaf_metadata, leaves)), torch.is_grad_enabled())
        # Of arguments like those of the call before, nothing is to be asked again.
        if kind == self._kind:
            return self._kind
        reason = self._why_not(arguments, leaves)
        if reason is not None:
            self._say_once(f"this call runs without CUDA graphs: {reason}")
            return None
        # But of generators, which they are.
        self._kind = None if torch.Generator in map(type, leaves) else kind
        return kind

    def _lookup(self, key: tuple[Kind, Hashable], arguments: Arguments) -> CacheEntry:
        now = self._guards.state()
        for place, entry in enumerate(reversed(self._entries), start=1):
            if entry.key == key and entry.guard_state.matches(now):
                if place > 1:
                    self._entries.append(self._entries.pop(-place))
                entry.guard_state = now  # which is the next call's, too, if nothing changes
                return entry
        # What has changed may lead to other code, which reads other things.
        self._guards.rescan()
        entry = CacheEntry(key, self._guards.state())
        self._note_miss(entry, arguments)
        self._entries.append(entry)
        if len(self._entries) > _MAX_ENTRIES:
            dropped = self._entries.pop(0)
            if dropped.recording is not None:
                self._say_once(
                    f"more than {_MAX_ENTRIES} kinds of calls were recorded as CUDA graphs, those "
                    f"not used for longest are dropped; pad inputs to fewer shapes, or switch "
                    f"graphs off"
                )
        return entry

    def _note_miss(self, entry: CacheEntry, arguments: Arguments) -> None:
        self._misses += 1
        if self._misses >= _MANY_MISSES:
            what = _difference(self._entries[-1], entry, arguments)
            self._say_once("the step runs without CUDA graphs, since it changes each time: ", what)

    def _drop_outdated(self, entry: CacheEntry, leaves: Sequence[Any]) -> None:
        if entry.recording is None:
            return
        if self._is_outdated(entry):
            # What was replaced concerns the other entries, too: they give back their memory.
            for each in filter(self._is_outdated, self._entries):
                each.recording, each.calls = None, 0
        elif not entry.recording.fits(leaves):
            # The caller has stopped to use the same tensors each time: copy from now on.
            entry.recording, entry.may_share = None, False

    def _is_outdated(self, entry: CacheEntry) -> bool:
        recording = entry.recording
        return recording is not None and self._program.is_outdated(recording.result[1])

    def _run(self, arguments: Arguments) -> Any:
        args, kwargs = arguments
        return self._pool.run(lambda: self._program.run(*args, **kwargs))

    def _warm_up(self, entry: CacheEntry, arguments: Arguments, leaves: Sequence[Any]) -> Any:
        # Not where each call may be of another kind: what is found would not be used again.
        searches = self._searches and entry.calls == 0 and self._misses <= _FEW_MISSES
        entry.calls += 1
        entry.addresses = _addresses(leaves)
        with convolution_search() if searches else nullcontext():
            return self._run(arguments)

    def _record(
        self, entry: CacheEntry, arguments: Arguments, leaves: Sequence[Any]
    ) -> Recording | None:
        """Record a call; if that fails, note why and return None."""
        # A loader that fills the same memory each time saves the copies: guess so from two calls.
        addresses = _addresses(leaves)
        same = [entry.may_share and a == b for a, b in zip(addresses, entry.addresses, strict=True)]
        on_host = HostRNGState()
        self._program.prepare()
        try:
            recording = Recording(self._program.record, arguments, leaves, same, self._pool)
            _check_result(recording.result[0])
            if on_host.changed():
                raise _NotRecordableError("it draws random numbers on the host")
        except Exception as error:
            entry.reason = f"it cannot be recorded: {_text(error)}"
            return None
        finally:
            # Whether or not it failed, Python code has run and no kernel has: gradients, the
            # scaler's notes and RNG states are as after a step that has not been made.
            self._program.rollback()
            self._units.reset()
            on_host.restore()
        self._logger.info("recorded a CUDA graph after %d calls", entry.calls)
        return recording

    def _run_instead(self, entry: CacheEntry, arguments: Arguments) -> Any:
        # If this raises, the error is the function's own, and no reason to give up recording.
        reason, entry.reason = entry.reason, None
        result = self._run(arguments)
        entry.reason = reason
        self._say_once(f"the step runs without CUDA graphs: {reason}")
        return result

    def _replay(self, recording: Recording, arguments: Arguments, leaves: Sequence[Any]) -> Any:
        result, graph_state = recording.result
        if not self._program.may_replay(graph_state):
            return self._run(arguments)
        self._misses = 0
        self._program.refresh()
        check = self._replay_check(arguments)
        recording.replay(leaves)
        self.replays += 1
        # The next replay overwrites the recording's results; the caller gets copies to keep.
        result = map_tensors(result, torch.clone)
        if check is not None:
            check.compare((result, graph_state))
        self._program.finish(graph_state)
        return result

    def _replay_check(self, arguments: Arguments) -> ReplayCheck | None:
        if self._replays_to_check <= 0:
            return None
        self._replays_to_check -= 1
        # The step may write to its arguments, which the replay is to find as they were.
        args, kwargs = map_leaves(arguments, _copy)
        tensors = [*self._program.written_tensors(), *self._guards.tensors()]
        return ReplayCheck(
            {id(tensor): tensor for tensor in tensors}.values(),
            lambda: self._pool.run(lambda: self._program.record(*args, **kwargs)),
        )

    def _why_not(self, arguments: Arguments, leaves: Sequence[Any]) -> str | None:
        for place, leaf in enumerate(leaves):
            reason = self._why_not_leaf(leaf)
            if reason is not None:
                return f"{_names(arguments)[place]} {reason}"
        generators = [id(leaf) for leaf in leaves if type(leaf) is torch.Generator]
        if len(set(generators)) < len(generators):
            return "a generator is passed twice; pass it once"
        return None

    def _why_not_leaf(self, leaf: Any) -> str | None:
        if type(leaf) is Tensor and not leaf.requires_grad and leaf.layout is torch.strided:
            return None if leaf.device == self._device else _elsewhere(leaf, self._device)
        if isinstance(leaf, CONSTANT_TYPES) or (isinstance(leaf, CODE_TYPES) and is_foreign(leaf)):
            return None
        if isinstance(leaf, torch.Generator):
            here = leaf.device.type == self._device.type and leaf.device.index in (
                None,  # of the current device, which is that of the step
                self._device.index,
            )
            return None if here else _elsewhere(leaf, self._device)
        if not isinstance(leaf, Tensor):
            return f"is a {type(leaf).__name__}, whose contents cannot be watched; pass its tensors"
        if type(leaf) not in (Tensor, torch.nn.Parameter) or leaf.layout is not torch.strided:
            return f"is a tensor of type {type(leaf).__name__}, {leaf.layout}"
        if leaf.device != self._device:
            return _elsewhere(leaf, self._device)
        if leaf.requires_grad and torch.is_grad_enabled() and self._program.needs_gradients:
            return "requires a gradient; let the step set requires_grad_() on a detached tensor"
        return None

    def _say_once(self, text: str, example: str = "") -> None:
        if text not in self._said:
            self._said.add(text)
            self._logger.warning(text + example)


_RECORDERS: WeakSet[Recorder] = WeakSet()


def release_graphs() -> None:
    """Give back the CUDA graphs of all captured steps, and their memory.

    NCCL ends communication among processes only when no CUDA graph holds any, and waits until
    then. So call this before ``torch.distributed.destroy_process_group()``, or a captured step
    that is still there would keep the program from ending; leaving a job of
    ``physicsnemo.distributed.start`` does. Steps go on to work: their next calls warm up, and are
    recorded, as the first ones were.

    Examples
    --------
    >>> from physicsnemo.utils import release_graphs
    >>> release_graphs()
    """
    for recorder in list(_RECORDERS):
        recorder.release()


class _NotRecordableError(Exception):
    """What was recorded cannot stand for a call."""


def _copy(leaf: Any) -> Any:
    if isinstance(leaf, torch.Generator):
        return leaf.clone_state()
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _elsewhere(leaf: Tensor | torch.Generator, device: torch.device) -> str:
    how = "move it to" if isinstance(leaf, Tensor) else "make it on"
    return f"is on {leaf.device}; {how} {device} before the call"


def _addresses(leaves: Sequence[Any]) -> list[int]:
    return [leaf.data_ptr() if isinstance(leaf, Tensor) else 0 for leaf in leaves]


def _difference(old: CacheEntry, new: CacheEntry, arguments: Arguments) -> str:
    (spec, before, _), (other, after, _) = old.key[0], new.key[0]
    if spec != other:
        return "the nesting of the arguments changes"
    for name, one, two in zip(_names(arguments), before, after, strict=True):
        if one != two:
            return f"{name} changes {_change(one, two)}"
    if not old.guard_state.matches(new.guard_state):
        return old.guard_state.difference(new.guard_state)
    return "the settings of the optimizer change"


def _change(before: Any, after: Any) -> str:
    """Say how the metadata of a leaf changes, see :func:`leaf_metadata`, and what to do."""
    if not isinstance(before[0], type) and not isinstance(after[0], type):  # of tensors both
        return "its shape or another property; pad inputs to a few shapes"
    change = f"from {_shown(before)} to {_shown(after)}"
    if all(isinstance(leaf[0], type) and issubclass(leaf[0], Number) for leaf in (before, after)):
        return f"{change}; pass numbers that change as tensors"
    return f"{change}; pass a tensor each time, or the same object"


def _shown(metadata: Any) -> str:
    if not isinstance(metadata[0], type):
        return "a tensor"
    return str(metadata[1]) if isinstance(metadata[1], IdentityKey) else repr(metadata[1])


def _names(arguments: Arguments) -> list[str]:
    args, kwargs = arguments
    return [name for name, _ in (*named_leaves(args, "args"), *named_leaves(kwargs, "kwargs"))]


def _check_result(result: Any) -> None:
    for name, leaf in named_leaves(result, "result"):
        if not isinstance(leaf, (*CONSTANT_TYPES, *CODE_TYPES, Tensor)):
            raise _NotRecordableError(
                f"its {name} is a {type(leaf).__name__}, which cannot be copied; return tensors "
                f"in tuples, lists, dictionaries or dataclasses"
            )


def _text(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, _NotRecordableError) else f"{type(error).__name__}: {first}"
