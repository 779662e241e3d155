# SPDX-License-Identifier: Apache-2.0
"""Calls that are run eagerly at first, then recorded as a CUDA graph and replayed."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo.core.capture.dependency_scan import CODE_TYPES, CONSTANT_TYPES, is_foreign
from physicsnemo.core.capture.guards import Guards, GuardState, describe
from physicsnemo.core.capture.programs import Program
from physicsnemo.core.capture.randomness import HostRandomness
from physicsnemo.core.capture.recording import GraphMemory, Recording
from physicsnemo.core.capture.verification import Verification
from physicsnemo.core.pytree import flatten, map_tensors, named_leaves

_MAX_KINDS = 16
_MANY_MISSES = 16

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_Key = tuple[Hashable, tuple[Any, ...], Hashable]
"""The nesting of the arguments, a description of each, and the program's key."""


@dataclass(eq=False)
class _Kind:
    """Calls that one recording serves."""

    key: _Key
    seen: GuardState
    calls: int = 0
    addresses: Sequence[int] = ()
    may_share: bool = True
    recording: Recording | None = None
    reason: str | None = None


class Recorder:
    """Call a program eagerly at first, then record it once and replay the recording.

    The warm-up calls are the caller's own, so nothing runs that was not asked for. Each kind of
    call, which is what a recording bakes in, gets a warm-up and a recording of its own; at most
    sixteen are kept, and the one that was not used for longest is dropped. What cannot be recorded
    runs eagerly for ever, and the logger tells why.

    Parameters
    ----------
    program
        What a call does.
    guards
        What its function depends on besides its arguments.
    device
        The CUDA device of the model.
    warmup
        Number of eager calls of a kind before it is recorded, at least one.
    verify
        Number of first replays to compare with an eager call.
    logger
        Where recordings, and reasons not to record, are reported.

    Attributes
    ----------
    replays
        Number of calls so far that replayed a recording.
    """

    def __init__(
        self,
        program: Program,
        guards: Guards,
        device: torch.device,
        warmup: int,
        verify: int,
        logger: logging.Logger,
    ) -> None:
        self._program, self._guards, self._logger = program, guards, logger
        self._memory = GraphMemory.of(device)
        self._device, self._warmup = device, max(1, warmup)
        self._verify = verify
        self._kinds: list[_Kind] = []
        self._misses = 0
        self._said: set[str] = set()
        self.replays = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Warm up, record or replay; which one depends on the calls before."""
        arguments, leaves = (args, kwargs), list[Any]()
        structure = flatten(arguments, leaves)
        reason = self._why_not(arguments, leaves)
        if reason is not None:
            self._say_once(f"this call runs without CUDA graphs: {reason}")
            return self._run(arguments)
        key = (structure, tuple(map(describe, leaves)), self._program.key())
        kind = self._find(key, arguments)
        self._drop_outdated(kind, leaves)
        if kind.recording is None:
            if kind.reason is not None or kind.calls < self._warmup:
                return self._warm_up(kind, arguments, leaves)
            if not self._program.may_record():
                return self._run(arguments)
            if not self._record(kind, arguments, leaves):
                return self._run_instead(kind, arguments)
        return self._replay(kind, arguments, leaves)

    def _run(self, arguments: Arguments) -> Any:
        args, kwargs = arguments
        return self._memory.run(lambda: self._program.run(*args, **kwargs))

    def _warm_up(self, kind: _Kind, arguments: Arguments, leaves: Sequence[Any]) -> Any:
        kind.calls += 1
        kind.addresses = _addresses(leaves)
        return self._run(arguments)

    def _replay(self, kind: _Kind, arguments: Arguments, leaves: Sequence[Any]) -> Any:
        if kind.recording is None:
            raise RuntimeError("there is no recording to replay")
        result, kept = kind.recording.result
        if not self._program.may_replay(kept):
            return self._run(arguments)
        self._misses = 0
        self._program.refresh()
        check = self._verification(arguments)
        kind.recording.replay(leaves)
        self.replays += 1
        # The next replay overwrites the recording's results; the caller gets copies to keep.
        result = map_tensors(result, torch.clone)
        if check is not None:
            check.compare((result, kept))
        self._program.finish(kept)
        return result

    def _verification(self, arguments: Arguments) -> Verification | None:
        if self._verify <= 0:
            return None
        self._verify -= 1
        args, kwargs = map_tensors(arguments, torch.clone)
        tensors = [*self._program.state(), *self._guards.tensors()]
        return Verification(
            {id(tensor): tensor for tensor in tensors}.values(),
            lambda: self._memory.run(lambda: self._program.record(*args, **kwargs)),
        )

    def _drop_outdated(self, kind: _Kind, leaves: Sequence[Any]) -> None:
        if kind.recording is None:
            return
        if self._is_outdated(kind):
            for each in filter(self._is_outdated, self._kinds):
                each.recording, each.calls = None, 0
        elif not kind.recording.fits(leaves):
            # The caller has stopped to use the same tensors each time: copy from now on.
            kind.recording, kind.may_share = None, False

    def _is_outdated(self, kind: _Kind) -> bool:
        recording = kind.recording
        return recording is not None and self._program.is_outdated(recording.result[1])

    def _record(self, kind: _Kind, arguments: Arguments, leaves: Sequence[Any]) -> bool:
        """Record a kind of call; if it cannot be, note why and return False."""
        addresses = _addresses(leaves)
        same = [kind.may_share and a == b for a, b in zip(addresses, kind.addresses, strict=True)]
        on_host = HostRandomness()
        self._program.prepare()
        try:
            recording = Recording(self._program.record, arguments, leaves, same, self._memory)
            _check_result(recording.result[0])
            if on_host.changed():
                raise _NotRecordableError("it draws random numbers on the host")
        except Exception as error:
            kind.reason = f"it cannot be recorded: {_text(error)}"
            return False
        finally:  # so far, nothing has run but Python code
            self._program.recover()
            on_host.restore()
        kind.recording = recording
        self._logger.info("recorded a CUDA graph after %d calls", kind.calls)
        return True

    def _run_instead(self, kind: _Kind, arguments: Arguments) -> Any:
        reason, kind.reason = kind.reason, None
        result = self._run(arguments)  # if this raises, the error is the function's own
        kind.reason = reason
        self._say_once(f"the step runs without CUDA graphs: {reason}")
        return result

    def _find(self, key: _Key, arguments: Arguments) -> _Kind:
        now = self._guards.state()
        for place, kind in enumerate(reversed(self._kinds), start=1):
            if kind.key == key and kind.seen.matches(now):
                if place > 1:
                    self._kinds.append(self._kinds.pop(-place))
                return kind
        self._guards.rescan()
        kind = _Kind(key, self._guards.state())
        self._note_miss(kind, arguments)
        self._kinds.append(kind)
        if len(self._kinds) > _MAX_KINDS:
            dropped = self._kinds.pop(0)
            if dropped.recording is not None:
                self._say_once(
                    f"more than {_MAX_KINDS} kinds of calls were recorded as CUDA graphs, those "
                    f"not used for longest are dropped; pad inputs to fewer shapes, or switch "
                    f"graphs off"
                )
        return kind

    def _note_miss(self, kind: _Kind, arguments: Arguments) -> None:
        self._misses += 1
        if self._misses >= _MANY_MISSES:
            what = _difference(self._kinds[-1], kind, arguments)
            self._say_once("the step runs without CUDA graphs, since it changes each time: ", what)

    def _why_not(self, arguments: Arguments, leaves: Sequence[Any]) -> str | None:
        for place, leaf in enumerate(leaves):
            reason = self._why_not_leaf(leaf)
            if reason is not None:
                return f"{_names(arguments)[place]} {reason}"
        return None

    def _why_not_leaf(self, leaf: Any) -> str | None:
        if isinstance(leaf, CONSTANT_TYPES) or (isinstance(leaf, CODE_TYPES) and is_foreign(leaf)):
            return None
        if not isinstance(leaf, Tensor):
            return f"is a {type(leaf).__name__}, whose contents cannot be watched; pass its tensors"
        if type(leaf) not in (Tensor, torch.nn.Parameter) or leaf.layout is not torch.strided:
            return f"is a tensor of type {type(leaf).__name__}, {leaf.layout}"
        if leaf.device != self._device:
            return f"is on {leaf.device}; move it to {self._device} before the call"
        if leaf.requires_grad and torch.is_grad_enabled() and self._program.needs_gradients:
            return "requires a gradient; let the step set requires_grad_() on a detached tensor"
        return None

    def _say_once(self, text: str, example: str = "") -> None:
        if text not in self._said:
            self._said.add(text)
            self._logger.warning(text + example)


class _NotRecordableError(Exception):
    """What was recorded cannot stand for a call."""


def _addresses(leaves: Sequence[Any]) -> list[int]:
    return [leaf.data_ptr() if isinstance(leaf, Tensor) else 0 for leaf in leaves]


def _difference(old: _Kind, new: _Kind, arguments: Arguments) -> str:
    (structure, before, _), (other, after, _) = old.key, new.key
    if structure != other:
        return "the nesting of the arguments changes"
    for name, one, two in zip(_names(arguments), before, after, strict=True):
        if one != two and isinstance(one[0], type):
            change = f"{one[1]!r} to {two[1]!r}"
            return f"{name} changes from {change}; pass numbers that change as tensors"
        if one != two:
            return f"{name} changes its shape or another property; pad inputs to a few shapes"
    if not old.seen.matches(new.seen):
        return old.seen.difference(new.seen)
    return "the settings of the optimizer change"


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
