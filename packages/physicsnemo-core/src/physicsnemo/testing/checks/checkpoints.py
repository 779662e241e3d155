# SPDX-License-Identifier: Apache-2.0
"""Checkpoints bring back what was saved, also where loading leaves weights undrawn."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from physicsnemo.core.rebuild.build import draws_only_weights
from physicsnemo.core.rebuild.contents import encode
from physicsnemo.models.module import Module
from physicsnemo.testing._compare import (
    assert_equal,
    assert_same_state,
    disturb,
    exactness,
    move,
    run,
    tensors,
)
from physicsnemo.testing.case import Case


def check_arguments(case: Case, device: torch.device) -> None:
    """All constructor arguments that are passed are JSON values or models."""
    _as_json(case.build())


def check_checkpoint(case: Case, device: torch.device) -> None:
    """Checkpoints bring back the class, the arguments, and every bit of the state."""
    with _saved(case, device) as (model, path):
        twin = type(model).from_checkpoint(path)
    if type(twin) is not type(model):
        raise AssertionError(f"a {type(model).__name__} came back as a {type(twin).__name__}")
    if _as_json(twin) != _as_json(model):
        raise AssertionError(f"saved {_as_json(model)}, loaded {_as_json(twin)}")
    assert_same_state(twin.state_dict(), model.state_dict())


def check_reload(case: Case, device: torch.device) -> None:
    """Models rebuilt or refilled from a checkpoint compute exactly what the saved one does."""
    with _saved(case, device) as (model, path):
        rebuilt = type(model).from_checkpoint(path).to(device)
        refilled = case.build(seed=1).to(device)
        refilled.load(path)
    inputs = move(case.inputs(), device)
    for training in (False, True):
        expected = run(model.train(training), inputs)
        for name, twin in (("from_checkpoint", rebuilt), ("load", refilled)):
            what = f"the output after {name}, {'train' if training else 'eval'} mode"
            assert_equal(run(twin.train(training), inputs), expected, exactness(device), what)


@contextmanager
def _saved(case: Case, device: torch.device) -> Iterator[tuple[Module, Path]]:
    """Save a model whose weights no constructor makes."""
    model = case.build().to(device)
    disturb(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mdlus"
        model.save(path)
        yield model, path


def _as_json(model: Module) -> str:
    return json.dumps(encode(model)[0])


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
                for place, tensor in enumerate(tensors(_items(value))):
                    yield f"{path}.{name}[{place}]", tensor


def _items(value: Any) -> Any:
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
