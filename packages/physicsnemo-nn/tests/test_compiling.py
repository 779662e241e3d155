# SPDX-License-Identifier: Apache-2.0
"""The compiler sees the same marks as if PyTorch had made them."""

import torch

from physicsnemo.nn.compiling import called_when_traced

CALLS = []


@called_when_traced
def number():
    """Count calls in earnest."""
    CALLS.append(torch.compiler.is_compiling())
    return len(CALLS)


def test_the_mark_is_that_of_pytorch():
    ours, theirs = called_when_traced(lambda: 0), torch.compiler.assume_constant_result(lambda: 0)
    assert vars(ours) == vars(theirs)


def test_called_once_for_a_trace():
    CALLS.clear()
    compiled = torch.compile(lambda x: x + number(), backend="eager", fullgraph=True)
    assert [compiled(torch.zeros(())).item() for _ in range(3)] == [1, 1, 1]
    assert len(CALLS) == 1
    torch.compiler.reset()
