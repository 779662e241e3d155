# SPDX-License-Identifier: Apache-2.0
"""The compiler sees the same marks as if PyTorch had made them, and traces are noticed."""

import pytest
import torch

from physicsnemo.nn.tracing import (
    assume_constant_result,
    is_exporting,
    is_tracing,
    is_transformed,
)

CALLS = []


@assume_constant_result
def number():
    """Count calls in earnest."""
    CALLS.append(torch.compiler.is_compiling())
    return len(CALLS)


def test_the_mark_is_that_of_pytorch():
    ours, theirs = (
        assume_constant_result(lambda: 0),
        torch.compiler.assume_constant_result(lambda: 0),
    )
    assert vars(ours) == vars(theirs)


class ByPurpose(torch.nn.Module):
    """Adds one where it is exported, and else doubles."""

    def forward(self, x):
        return x + 1 if is_exporting() else 2 * x


def test_compiling_is_not_exporting():
    compiled = torch.compile(ByPurpose(), backend="eager", fullgraph=True)
    assert compiled(torch.tensor(3.0)).item() == ByPurpose()(torch.tensor(3.0)).item() == 6
    torch.compiler.reset()


@pytest.mark.parametrize("strict", [True, False])
def test_exporting_is_known_while_it_lasts(strict):
    program = torch.export.export(ByPurpose(), (torch.tensor(3.0),), strict=strict)
    assert program.module()(torch.tensor(3.0)).item() == 4
    assert not is_exporting()


def test_called_once_for_a_trace():
    CALLS.clear()
    compiled = torch.compile(lambda x: x + number(), backend="eager", fullgraph=True)
    assert [compiled(torch.zeros(())).item() for _ in range(3)] == [1, 1, 1]
    assert len(CALLS) == 1
    torch.compiler.reset()


def test_traces_and_transforms_are_known_while_they_last():
    seen = []

    def function(x):
        seen.append((is_tracing(), is_transformed()))
        return 2 * x

    x = torch.ones(2)
    function(x)
    torch.jit.trace(function, x, check_trace=False)
    for transform in (torch.func.vmap, torch.func.jacrev, torch.func.jacfwd):
        transform(function)(x)
    function(x)
    assert seen == [(False, False), (True, False), *[(False, True)] * 3, (False, False)]
