# SPDX-License-Identifier: Apache-2.0
"""What a call does: the interface that recordings use, and the evaluation of a function."""

import functools
import inspect
from collections.abc import Callable, Hashable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.core.capture.precision import Precision

Step = Callable[..., Any]
_UNFINISHED = (GeneratorType, CoroutineType, AsyncGeneratorType)


def check_step(function: Step) -> None:
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


_UNFINISHED_TEXT = (
    "a captured step must be a function that runs when it is called, {} is a generator or "
    "coroutine: its code would run later, with other gradients and precision; return a list, or "
    "capture the function that makes one item"
)


class Program:
    """What a call does, either by itself or around a recording of its greater part.

    An eager call is ``run``. A recording is made by ``prepare`` and ``record``, after which a
    replayed call is ``refresh``, the replay, and ``finish``.

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
        """Do what belongs into a recording; return the result, and what else is to be kept."""
        raise NotImplementedError

    def state(self) -> list[Tensor]:
        """Return all tensors that ``record`` changes."""
        raise NotImplementedError

    def key(self) -> Hashable:
        """Return what a recording bakes in besides arguments and surroundings."""
        return None

    def may_record(self) -> bool:
        """Return whether all exists that a recording uses but must not make itself."""
        return True

    def may_replay(self, kept: Any) -> bool:
        """Return whether things lie as they did when the recording was made."""
        return True

    def is_outdated(self, kept: Any) -> bool:
        """Return whether a recording uses what has been replaced, and never comes back."""
        return False

    def prepare(self) -> None:
        """Make what a recording reads but must not make itself."""

    def refresh(self) -> None:
        """Bring up to date what a recording reads."""

    def finish(self, kept: Any) -> None:
        """Do what remains of a call after a replay."""

    def recover(self) -> None:
        """Take back what ``record`` has changed in Python."""

    def abandon(self) -> None:
        """Drop what a call that failed has left half done."""


class Evaluation(Program):
    """A function without gradients.

    Parameters
    ----------
    function
        What to call.
    model
        The model that it calls.
    precision
        Its autocast settings.
    """

    def __init__(self, function: Step, model: nn.Module, precision: Precision) -> None:
        self._function, self._model, self._precision = function, model, precision

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        with torch.no_grad(), self._precision.context():
            return finished(self._function(*args, **kwargs))

    def record(self, *args: Any, **kwargs: Any) -> tuple[Any, list[Tensor]]:
        """Call the function; nothing else is kept."""
        return self.run(*args, **kwargs), []

    def state(self) -> list[Tensor]:
        """Return the model's buffers."""
        return list(self._model.buffers())
