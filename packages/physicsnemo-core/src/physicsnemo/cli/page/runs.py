# SPDX-License-Identifier: Apache-2.0
"""The model of a file at work: loaded by the rules of loading, when the user asks for it."""

import threading
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physicsnemo.cli.page.inputs import Call, tensors_of
from physicsnemo.core.errors import CheckpointError, shown
from physicsnemo.core.pytree import flatten
from physicsnemo.core.rebuild.example import check_outputs, evaluate, stored_example
from physicsnemo.core.rebuild.resolution import Trusted
from physicsnemo.models.module import Module

_LONGEST = 2_000
_one_at_a_time = threading.Lock()  # runs share the random numbers of the process


class RunError(RuntimeError):
    """The model cannot be loaded, or fails on its inputs; the text says why."""


@dataclass(frozen=True)
class Run:
    """What a model made of its inputs.

    Attributes
    ----------
    inputs, outputs
        Tensors, by names for people.
    seconds
        How long the call took.
    finding
        How the outputs compare with those in the file, None where the inputs are others.
    agrees
        Whether they do, up to rounding.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    seconds: float
    finding: str | None = None
    agrees: bool = True


class Runner:
    """The model of a file, which is loaded when it is first needed.

    Parameters
    ----------
    file
        A path, or a URL that fsspec knows.
    trusted
        As for :meth:`physicsnemo.Module.from_checkpoint`.
    """

    def __init__(self, file: str, trusted: Trusted = ()) -> None:
        self.file = file
        self._trusted = tuple(trusted)
        self._model: Module | None = None
        self._example: dict[str, Any] | None = None

    def example(self) -> Call | None:
        """Return the inputs of the example in the file, which are read as data, None without one.

        Raises
        ------
        CheckpointError
            If it is damaged.
        """
        self._example = stored_example(self.file)
        return None if self._example is None else Call.of(self._example)

    def dtype(self) -> torch.dtype:
        """Return the type of real numbers that the model computes with.

        Raises
        ------
        RunError
            If it cannot be loaded.
        """
        types = (it.dtype for it in self._load().parameters() if it.is_floating_point())
        return next(types, torch.get_default_dtype())

    def run(self, call: Call) -> Run:
        """Run the model, in evaluation mode and with the same random numbers each time.

        Raises
        ------
        RunError
            If it cannot be loaded, or fails.
        """
        model = self._load()
        start = time.perf_counter()
        try:
            with _one_at_a_time:
                output = evaluate(model, *call)
        except Exception as error:  # whatever a model makes of inputs that it does not expect
            raise RunError(self._failure(model, call, error)) from error
        seconds = time.perf_counter() - start
        outputs = tensors_of({"output": output})
        finding, agrees = self._compared(model, call, output)
        return Run(call.tensors, outputs, seconds, finding, agrees)

    def _load(self) -> Module:
        with _one_at_a_time:
            if self._model is None:
                try:
                    self._model = Module.from_checkpoint(self.file, trusted=self._trusted)
                except Exception as error:  # those of classes' constructors, too
                    raise RunError(_text(error)) from error
        return self._model

    def _failure(self, model: Module, call: Call, error: Exception) -> str:
        given = _shapes(call.tensors)
        expected = "" if self._example is None else _shapes(Call.of(self._example).tensors)
        there = (
            f" The example in the file has {expected}." if expected and expected != given else ""
        )
        return f"{type(model).__name__} fails on {given or 'no tensors'}: {_text(error)}.{there}"

    def _compared(self, model: Module, call: Call, output: Any) -> tuple[str | None, bool]:
        """Compare with the outputs in the file, if the inputs are those there."""
        if self._example is None or not _are_same(call.tensors, Call.of(self._example).tensors):
            return None, True
        leaves: list[Any] = []
        flatten(output, leaves)
        try:
            return check_outputs(model, leaves, self._example, self.file), True
        except Exception as error:  # whatever a file gives for outputs
            return _text(error), False


def _are_same(given: dict[str, Tensor], stored: dict[str, Tensor]) -> bool:
    return given.keys() == stored.keys() and all(
        mine is stored[name] for name, mine in given.items()
    )


def _shapes(tensors: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} of shape {tuple(it.shape)}" for name, it in tensors.items())


def _text(error: Exception) -> str:
    text = shown(" ".join(str(error).split()), _LONGEST)
    return text if isinstance(error, CheckpointError) else f"{type(error).__name__}: {text}"
