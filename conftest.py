# SPDX-License-Identifier: Apache-2.0
"""Garbage collection in all tests; what those that need a GPU share, and their failure without."""

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from physicsnemo import Module
    from physicsnemo.testing import Case

GPUS = {"gpu": 1, "two_gpus": 2}
"""How many GPUs a test needs, by its marker."""


def pytest_configure() -> None:
    """Look less often for cycles among old objects: PyTorch and the tests stay, a million or so."""
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, 10 * old)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let warnings be warnings: PyTorch has advice on the speed of each kind of GPU."""
    for item in items:
        if any(map(item.get_closest_marker, GPUS)):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail before a fixture asks for a GPU that is not there."""
    found = torch.cuda.device_count()
    for marker, needed in GPUS.items():
        if item.get_closest_marker(marker) and found < needed:
            pytest.fail(f"needs GPUs: {needed}; PyTorch {torch.__version__} finds {found}", False)


@pytest.fixture
def gpu() -> torch.device:
    """Return the GPU, where nothing is compiled yet."""
    torch.compiler.reset()
    return torch.device("cuda")


@pytest.fixture
def on_gpu(gpu: torch.device) -> Callable[["Case"], tuple["Module", Any]]:
    """Build the model of a case, and its inputs."""

    def build(case: "Case") -> tuple["Module", Any]:
        torch.manual_seed(0)
        inputs = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(gpu), case.inputs())
        return case.build().to(gpu), inputs

    return build


@pytest.fixture
def outputs_and_gradients(gpu: torch.device) -> Callable[..., list[Tensor]]:
    """Return the outputs of a model, or of a function made of it, and gradients of a loss.

    The loss is the sum of their mean squares, times a scale. Random numbers are the same each time.
    """

    def compute(
        function: Callable[..., Any],
        model: "Module",
        inputs: Any,
        dtype: torch.dtype = torch.float32,
        scale: float = 1,
    ) -> list[Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        with torch.autocast(gpu.type, dtype, enabled=dtype is not torch.float32):
            outputs = pytree.tree_leaves(function(*inputs))
        loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
        (scale * loss).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return [*(output.detach() for output in outputs), *gradients]

    return compute


@pytest.fixture
def assert_same_bits(outputs_and_gradients: Callable[..., list[Tensor]]) -> Callable[..., None]:
    """Call a model six times: outputs and gradients are the same, bit by bit."""

    def check(*arguments: Any) -> None:
        first = outputs_and_gradients(*arguments)
        for _ in range(5):
            again = outputs_and_gradients(*arguments)
            assert all(map(torch.equal, first, again))
            assert len(first) == len(again)

    return check
