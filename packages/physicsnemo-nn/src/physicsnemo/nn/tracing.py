# SPDX-License-Identifier: Apache-2.0
"""Whether the code at hand is compiled, exported, traced or transformed.

Nothing here imports PyTorch's compiler. That takes seconds and a writable folder for temporary
files, which a process that compiles nothing need not have.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = [
    "assume_constant_result",
    "is_exporting",
    "is_faked",
    "is_tracing",
    "is_transformed",
]

Function = TypeVar("Function", bound=Callable[..., object])


def assume_constant_result(function: Function) -> Function:
    """Mark a function as constant: the compiler calls it where it meets it, and keeps the result.

    This is :func:`torch.compiler.assume_constant_result`.

    Parameters
    ----------
    function
        A function of the module's; what it returns must depend on nothing but its arguments and
        what the trace is for.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@assume_constant_result  # PyTorch 2.11 takes its own function for true in any trace
def is_exporting() -> bool:
    """Return whether :func:`torch.export.export` is at work, rather than :func:`torch.compile`."""
    return torch.compiler.is_exporting()


@assume_constant_result
def is_faked() -> bool:
    """Return whether code is compiled for fake tensors, which do not mix with those from outside.

    The answer belongs to what is compiled, which fake tensors alone run then.
    """
    # By a flag, since compilers put away the modes themselves while they are at work.
    return is_in_torch_dispatch_mode()


def is_tracing() -> bool:
    """Return whether :func:`torch.jit.trace` is at work.

    One trace serves all sizes. So it drops comparisons of sizes, and warns of each; leave them out.
    """
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def is_transformed() -> bool:
    """Return whether a transform of :mod:`torch.func` is at work, outside of compiled code."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
