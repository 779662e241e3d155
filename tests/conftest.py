# SPDX-License-Identifier: Apache-2.0
"""Wheels, which are built once, scripts on pages of the site, and steps that scripts record."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from physicsnemo.utils import StaticCaptureTraining
from tools.environment import build_wheels
from tools.workspace import ROOT, closure, packages

collect_ignore = ["data"]  # programs of users, of which some are wrong on purpose


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheels of core, nn, mlp and fno."""
    folders = {part.name: part.folder for part in closure("physicsnemo-fno", packages())}
    return build_wheels(folders, tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def script_on() -> Callable[[str], str]:
    """Return the script on a page of the site that has one to paste."""

    def read(page: str) -> str:
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        (found,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        return str(found)

    return read


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
