# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's compiler is told about functions, and asked, without importing it.

That import takes seconds and a writable folder for temporary files, which a process that compiles
nothing need not have.
"""

from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["called_when_traced", "exporting"]

Function = TypeVar("Function", bound=Callable[..., object])


def called_when_traced(function: Function) -> Function:
    """Have the compiler call a function where it meets it, and take the result as constant.

    This is :func:`torch.compiler.assume_constant_result`.

    Parameters
    ----------
    function
        A function of the module's; what it returns must depend on nothing but its arguments and
        what the trace is for.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@called_when_traced  # PyTorch 2.11 takes its own function for true in any trace
def exporting() -> bool:
    """Return whether :func:`torch.export.export` is at work, rather than :func:`torch.compile`."""
    return torch.compiler.is_exporting()
