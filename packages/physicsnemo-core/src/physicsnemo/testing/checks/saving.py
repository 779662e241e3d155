# SPDX-License-Identifier: Apache-2.0
"""What is saved is what comes back."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from physicsnemo.core.rebuild.contents import encode
from physicsnemo.models.module import Module
from physicsnemo.testing._compare import (
    assert_equal,
    assert_same_state,
    disturb,
    exactness,
    move,
    run,
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
