# SPDX-License-Identifier: Apache-2.0
"""PyTorch's compilers take the model as it is."""

import torch

from physicsnemo.testing._compare import SAME, assert_equal, call, gradients, prepare, split, vary
from physicsnemo.testing.case import Case


def check_compile(
    case: Case, device: str | torch.device = "cpu", backend: str = "aot_eager"
) -> None:
    """``torch.compile`` finds no graph break, and computes the same outputs and gradients.

    Parameters
    ----------
    case
        The model and its inputs.
    device
        Where to run it.
    backend
        What compiles the graph; ``inductor`` makes kernels of it, and takes much longer.

    Raises
    ------
    AssertionError
        If the outputs or the gradients differ from those of the plain model.
    torch._dynamo.exc.TorchDynamoException
        If there is a graph break.
    """
    model, inputs = prepare(case, torch.device(device))
    expected = call(model, inputs)
    expected_gradients = gradients(model, expected)
    torch.compiler.reset()
    try:
        outputs = call(torch.compile(model, fullgraph=True, backend=backend), inputs)
        assert_equal(outputs, expected, SAME)
        assert_equal(gradients(model, outputs), expected_gradients, SAME, "the gradient")
    finally:
        torch.compiler.reset()


def check_export(case: Case, device: torch.device) -> None:
    """``torch.export`` takes the model, strictly and not, and the program computes the same."""
    model, inputs = prepare(case, device)
    others = vary(inputs)
    expected = call(model, others)
    for strict in (False, True):
        program = torch.export.export(model, *split(inputs), strict=strict)
        what = f"the output of the program exported with strict={strict}"
        assert_equal(call(program.module(), others), expected, SAME, what)
