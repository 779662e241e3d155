# SPDX-License-Identifier: Apache-2.0
"""Step programs: what a call does, by itself or around a recording of its greater part."""

import functools
import inspect
from collections.abc import Hashable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.capture.compilation import Compilation, StepFunction
from physicsnemo.core.capture.options import Precision

_UNFINISHED = (GeneratorType, CoroutineType, AsyncGeneratorType)
_UNFINISHED_TEXT = (
    "a captured step must be a function that runs when it is called, {} is a generator or "
    "coroutine: its code would run later, with other gradients and precision; return a list, or "
    "capture the function that makes one item"
)


class StepProgram:
    """Step program: the parts of a call, for the recorder to put in order.

    An eager call is ``run``. A recording is made by ``prepare``, ``record`` and ``rollback``,
    after which a replayed call is ``refresh``, the replay, and ``finish``.

    Attributes
    ----------
    needs_gradients
        Whether gradients flow back to the arguments of a call.
    """

    needs_gradients = False

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do all of a call."""
        raise NotImplementedError

    def record(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Do what belongs into a recording; return the result and the graph state.

        The graph state is what else the recording holds. It is opaque to the recorder, which hands
        it back to ``may_replay``, ``is_outdated`` and ``finish``.
        """
        raise NotImplementedError

    def written_tensors(self) -> list[Tensor]:
        """Return all tensors that ``record`` changes."""
        raise NotImplementedError

    def key(self) -> Hashable:
        """Return what a recording bakes in besides arguments and guards."""
        return None

    def may_record(self) -> bool:
        """Return whether all exists that a recording uses but must not make itself."""
        return True

    def may_replay(self, graph_state: Any) -> bool:
        """Return whether tensors lie where they lay when the recording was made."""
        return True

    def is_outdated(self, graph_state: Any) -> bool:
        """Return whether a recording uses what has been replaced, and never comes back."""
        return False

    def prepare(self) -> None:
        """Make what a recording reads but must not make itself."""

    def refresh(self) -> None:
        """Bring up to date what a recording reads."""

    def finish(self, graph_state: Any) -> None:
        """Do what remains of a call after a replay."""

    def rollback(self) -> None:
        """Take back what ``record`` has changed in Python; no kernel has run."""

    def reset(self) -> None:
        """Drop what a call that failed has left half done."""


class EvaluationStep(StepProgram):
    """Evaluation step: a function without gradients.

    Parameters
    ----------
    function
        What to call.
    model
        The model that it calls.
    precision
        Its autocast settings.
    """

    def __init__(self, function: Compilation, model: nn.Module, precision: Precision) -> None:
        self._function, self._model, self._precision = function, model, precision

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        with torch.no_grad(), self._precision.context(), self._function.active():
            return finished(self._function(*args, **kwargs))

    def record(self, *args: Any, **kwargs: Any) -> tuple[Any, list[Tensor]]:
        """Call the function; the graph state is empty."""
        return self.run(*args, **kwargs), []

    def written_tensors(self) -> list[Tensor]:
        """Return the model's buffers."""
        return list(self._model.buffers())


def check_step(function: StepFunction) -> None:
    """Check that calling a function runs all of it.

    Raises
    ------
    TypeError
        If it is a generator or coroutine function, whose code runs after the call.
    """
    inner: Any = function.func if isinstance(function, functools.partial) else function
    for code in (inner, type(inner).__call__):
        if (
            inspect.isgeneratorfunction(code)
            or inspect.iscoroutinefunction(code)
            or inspect.isasyncgenfunction(code)
        ):
            raise TypeError(_UNFINISHED_TEXT.format(getattr(function, "__name__", function)))


def finished(result: Any) -> Any:
    """Return what a function returned, unless its code has yet to run.

    Raises
    ------
    TypeError
        If it is a generator or a coroutine.
    """
    if isinstance(result, _UNFINISHED):
        raise TypeError(_UNFINISHED_TEXT.format(result.__name__))
    return result
