# SPDX-License-Identifier: Apache-2.0
"""Search for the fastest algorithms of convolutions, before calls are recorded."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def convolution_search() -> Iterator[None]:
    """Let cuDNN time algorithms for convolutions that are new to it, and take the fastest.

    PyTorch keeps the choice by shapes and types for the rest of the process, and goes by it after
    the search as well. It frees the workspaces of each search, and does with smaller ones where
    memory is short. There is no search where results have to be the same in each process, nor
    where ``torch.backends.disable_global_flags`` has made settings final.
    """
    cudnn = torch.backends.cudnn
    if (
        cudnn.benchmark  # the caller's own, to stay
        or cudnn.deterministic
        or torch.are_deterministic_algorithms_enabled()
        or torch.backends.flags_frozen()
    ):
        yield
        return
    cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.benchmark = False
