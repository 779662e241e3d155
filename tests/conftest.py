# SPDX-License-Identifier: Apache-2.0
"""Wheels for the tests that install packages: they are built once."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from physicsnemo.utils import StaticCaptureTraining
from tools.environment import build_wheels
from tools.workspace import closure, packages

collect_ignore = ["data"]  # programs of users, of which some are wrong on purpose


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheels of core, nn, mlp and fno."""
    folders = {part.name: part.folder for part in closure("physicsnemo-fno", packages())}
    return build_wheels(folders, tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def steps_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType], list[Any]]]:
    """Let a script record its steps, which a model on a CPU does not do, and return them."""

    def record(script: ModuleType) -> list[Any]:
        steps: list[Any] = []

        def captured(**options: Any) -> Callable[..., Any]:
            capture = StaticCaptureTraining(**options)
            capture.use_graphs = True
            return lambda function: steps.append(capture(function)) or steps[-1]

        monkeypatch.setattr(script, "StaticCaptureTraining", captured)
        return steps

    yield record
    StaticCaptureTraining.reset_state()
