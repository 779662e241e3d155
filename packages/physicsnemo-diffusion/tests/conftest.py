# SPDX-License-Identifier: Apache-2.0
"""What several tests of sampling look for."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class FromTheHost(TorchFunctionMode):
    """Notes what brings numbers of the host to another device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = pytree.tree_leaves((args, kwargs))
        tensors = [it for it in given if isinstance(it, torch.Tensor)]
        made = func in (torch.tensor, torch.as_tensor) and not tensors
        brought = made or any(it.is_cpu for it in tensors)
        if brought and isinstance(result, torch.Tensor) and not result.is_cpu:
            self.found.append(func.__name__)
        return result


@pytest.fixture
def from_the_host():
    """Return a mode that notes what brings numbers of the host to another device."""
    return FromTheHost()
