# SPDX-License-Identifier: Apache-2.0
"""A model follows ``.to``, and brings everything along."""

from itertools import chain
from typing import Any

import torch

from physicsnemo.models.module import Module
from physicsnemo.testing._compare import assert_equal, move, prepare, run, tensors
from physicsnemo.testing.case import Case

# Float32 beside float64.
_ROUNDING = 1e-3
# Float64 on two devices.
_DOUBLE = 1e-9


def check_float64(case: Case, device: torch.device) -> None:
    """In float64 the model computes in float64, and the same within float32's rounding."""
    model, inputs = prepare(case, device)
    expected = run(model, inputs)
    outputs = run(model.double(), move(inputs, torch.float64))
    for output in tensors(outputs):
        if output.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.complex64):
            raise AssertionError(f"an output is {output.dtype}, though model and inputs are double")
    assert_equal(outputs, expected, _ROUNDING)


def check_meta_device(case: Case, device: torch.device) -> None:
    """On the meta device, where tensors are shapes alone, the outputs have the same shapes."""
    model, inputs = prepare(case, device)
    expected = _shapes(run(model, inputs))
    meta = torch.device("meta")
    _assert_on(model.to(meta), meta)
    got = _shapes(run(model, move(inputs, meta)))
    if got != expected:
        raise AssertionError(f"outputs on the meta device are {got}, expected {expected}")


def check_device(case: Case, device: torch.device) -> None:
    """On another device, and back on the CPU, the model computes what it did, in float64."""
    model, inputs = prepare(case, torch.device("cpu"))
    model, inputs = model.double(), move(inputs, torch.float64)
    expected = run(model, inputs)
    for target in (device, torch.device("cpu")):
        _assert_on(model.to(target), target)
        assert_equal(run(model, move(inputs, target)), expected, _DOUBLE, f"the output on {target}")


def _assert_on(model: Module, device: torch.device) -> None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != device.type:
            raise AssertionError(f"{name} is on {tensor.device} after .to({device})")


def _shapes(outputs: Any) -> list[tuple[tuple[int, ...], torch.dtype]]:
    return [(tuple(output.shape), output.dtype) for output in tensors(outputs)]
