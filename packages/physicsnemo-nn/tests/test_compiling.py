# SPDX-License-Identifier: Apache-2.0
"""The compiler sees the same marks as if PyTorch had made them."""

import pytest
import torch

from physicsnemo.nn.compiling import called_when_traced, exporting

CALLS = []


@called_when_traced
def number():
    """Count calls in earnest."""
    CALLS.append(torch.compiler.is_compiling())
    return len(CALLS)


def test_the_mark_is_that_of_pytorch():
    ours, theirs = called_when_traced(lambda: 0), torch.compiler.assume_constant_result(lambda: 0)
    assert vars(ours) == vars(theirs)


class ByPurpose(torch.nn.Module):
    """Adds one where it is exported, and else doubles."""

    def forward(self, x):
        return x + 1 if exporting() else 2 * x


def test_compiling_is_not_exporting():
    compiled = torch.compile(ByPurpose(), backend="eager", fullgraph=True)
    assert compiled(torch.tensor(3.0)).item() == ByPurpose()(torch.tensor(3.0)).item() == 6
    torch.compiler.reset()


@pytest.mark.parametrize("strict", [True, False])
def test_exporting_is_known_while_it_lasts(strict):
    program = torch.export.export(ByPurpose(), (torch.tensor(3.0),), strict=strict)
    assert program.module()(torch.tensor(3.0)).item() == 4
    assert not exporting()


def test_called_once_for_a_trace():
    CALLS.clear()
    compiled = torch.compile(lambda x: x + number(), backend="eager", fullgraph=True)
    assert [compiled(torch.zeros(())).item() for _ in range(3)] == [1, 1, 1]
    assert len(CALLS) == 1
    torch.compiler.reset()
