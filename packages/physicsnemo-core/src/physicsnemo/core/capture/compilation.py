# SPDX-License-Identifier: Apache-2.0
"""Compilation of a step: of all of its function, or of the blocks of its model."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from physicsnemo.core.capture.blocks import CompiledBlocks, find_blocks
from physicsnemo.core.capture.options import Compile

StepFunction = Callable[..., Any]

_COMPILERS = {"CC": ("gcc", "clang", "cc"), "CXX": ("g++", "clang++", "c++")}
_PARTS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")


class Compilation:
    """What is compiled of a step, and the way back if that fails.

    Parameters
    ----------
    function
        What the step calls.
    model
        The model that it calls.
    choice
        True for all of the function, ``blocks`` for the model's blocks, ``auto`` for these where
        there is a compiler, and until it fails.
    captured
        Whether the step is recorded as a CUDA graph, without which ``auto`` compiles nothing: that
        hides the time that the host takes for what stays uncompiled.
    logger
        Where ``auto`` says why it does not compile.
    """

    def __init__(
        self,
        function: StepFunction,
        model: nn.Module,
        choice: Compile,
        *,
        captured: bool,
        logger: logging.Logger,
    ) -> None:
        self._plain, self._logger = function, logger
        self._may_fail = choice == "auto"
        self._blocks: CompiledBlocks | None = None
        self._compiled: StepFunction | None = None
        if choice == "auto" and (not captured or self._lacks_compiler()):
            return
        found = find_blocks(model) if choice in ("auto", "blocks") else []
        if found:
            self._blocks = CompiledBlocks(found)
        elif choice:
            self._compiled = torch.compile(function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, compiled if it is to be."""
        return (self._compiled or self._plain)(*args, **kwargs)

    def active(self) -> AbstractContextManager[None]:
        """Return the context of a step in which the model's blocks run compiled, if they are."""
        return nullcontext() if self._blocks is None else self._blocks.active()

    def give_up(self, error: BaseException) -> bool:
        """Compile nothing any more if an error is the compiler's; return whether to call again."""
        if not self._may_fail or not _is_of_compiler(error):
            return False
        self._may_fail, self._blocks, self._compiled = False, None, None
        # The first two lines: by whom, and what; hints on debugging follow.
        text = " ".join(str(error).split("\n")[:2])
        self._logger.warning(
            "the step runs uncompiled, since compiling it failed: %s: %s",
            type(error).__name__,
            text,
        )
        return True

    def _lacks_compiler(self) -> bool:
        reason = why_no_compiler()
        if reason is not None:
            self._logger.warning("the step runs uncompiled: %s", reason)
        return reason is not None


def why_no_compiler() -> str | None:
    """Return what is missing here to compile code for a GPU, None if nothing is."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    for variable, names in _COMPILERS.items():
        candidates = [os.environ[variable]] if os.environ.get(variable) else list(names)
        if not any(map(shutil.which, candidates)):
            kind = "C" if variable == "CC" else "C++"
            return (
                f"there is no {kind} compiler ({', '.join(candidates)}); install one, or name it "
                f"in the environment variable {variable}"
            )
    return None


def _is_of_compiler(error: BaseException) -> bool:
    return any(
        kind.__module__.startswith(_PARTS) for each in _chain(error) for kind in type(each).__mro__
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__
