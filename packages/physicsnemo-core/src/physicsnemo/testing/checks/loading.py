# SPDX-License-Identifier: Apache-2.0
"""Loading may leave weights undrawn only where that changes nothing."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from physicsnemo.core.rebuild.build import draws_only_weights
from physicsnemo.models.module import Module
from physicsnemo.testing._compare import assert_equal, disturb, exactness, move, run, tensors
from physicsnemo.testing.case import Case


def declares(case: Case, device: torch.device) -> bool:
    """Tell whether a model's class declares that it draws nothing but weights."""
    return draws_only_weights(case.model_class)


def check_undrawn(case: Case, device: torch.device) -> None:
    """Models loaded without drawing weights are those that are constructed and then loaded."""
    model = case.build().to(device)
    disturb(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mdlus"
        model.save(path)
        expected = case.build(seed=1)
        expected.load(path)
        with _unwritten_memory_is_nan():
            loaded = type(model).from_checkpoint(path)
    theirs = dict(_tensors_of(expected))
    ours = dict(_tensors_of(loaded))
    if ours.keys() != theirs.keys():
        raise AssertionError(f"loading makes the tensors {sorted(ours)}, expected {sorted(theirs)}")
    for name, tensor in theirs.items():
        assert_equal(ours[name], tensor, 0.0, f"after loading, {name}")
    inputs = move(case.inputs(), device)
    assert_equal(
        run(loaded.to(device).eval(), inputs),
        run(expected.to(device).eval(), inputs),
        exactness(device),
        "the output after loading",
    )


def _tensors_of(model: Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors that a model's modules keep: parameters, buffers, and other attributes."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name != "_modules":
                for place, tensor in enumerate(tensors(_plain(value))):
                    yield f"{path}.{name}[{place}]", tensor


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


@contextmanager
def _unwritten_memory_is_nan() -> Iterator[None]:
    """Fill memory that a constructor leaves as it is, so that whatever it makes of it is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
