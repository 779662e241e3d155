# SPDX-License-Identifier: Apache-2.0
"""Models and distributions that the tests of core share."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from physicsnemo import Module
from physicsnemo.cli import main
from physicsnemo.core.capture.graphs import GraphPool
from physicsnemo.core.pytree import flatten
from physicsnemo.hooks import forget_plugins
from physicsnemo.registry import ModelRegistry


@pytest.fixture
def registry() -> Iterator[ModelRegistry]:
    """A registry that knows what is installed, and forgets afterwards what the test adds."""
    ModelRegistry().__restore_registry__()
    yield ModelRegistry()
    ModelRegistry().__restore_registry__()
    forget_plugins()


@pytest.fixture
def install(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Make a distribution with entry points importable, as an installer would."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, entry_points: str, **modules: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(entry_points)
        for module, code in modules.items():
            (tmp_path / f"{module}.py").write_text(code)
        registry.__restore_registry__()
        forget_plugins()

    return install


@pytest.fixture
def physicsnemo(registry: ModelRegistry) -> Callable[..., Result]:
    """Run the command ``physicsnemo`` in this process; only what ends it may be raised."""
    return lambda *arguments: CliRunner(catch_exceptions=False).invoke(
        main, list(map(str, arguments))
    )


class Affine(Module):
    """A small model with a parameter of each kind: ``scale * x + shift``."""

    _overridable_args = {"power"}

    def __init__(self, size: int, start: float = 1.0, power: int = 1) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((size,), start))
        self.shift = torch.nn.Parameter(torch.zeros(size))
        self.power = power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x**self.power + self.shift


@pytest.fixture
def affine() -> type[Module]:
    """The class ``Affine``."""
    return Affine


@pytest.fixture
def members_of() -> Callable[[Path], dict[str, bytes]]:
    """Read all members of a tar, by name."""

    def read(path: Path) -> dict[str, bytes]:
        with tarfile.open(path) as archive:
            return {member.name: archive.extractfile(member).read() for member in archive}

    return read


@pytest.fixture
def write_tar() -> Callable[[Path, dict[str, bytes]], None]:
    """Write a tar as checkpoints are, whatever its members hold."""

    def write(path: Path, members: dict[str, bytes]) -> None:
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return write


class Replays:
    """Stands for the graph pool: a replay runs the function again.

    As with CUDA graphs, recording changes no tensor, for which the test tells what to watch, and
    a replay writes to the memory of the recording's results, and not to ``parameter.grad``.
    """

    def __init__(self) -> None:
        self.watched: list[Callable[[], Iterable[torch.Tensor | None]]] = []
        self.parameters: list[torch.nn.Parameter] = []

    def run(self, function: Callable[[], Any]) -> Any:
        return function()

    def record(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator] = ()
    ) -> tuple[Callable[[], None], Any]:
        tensors = [tensor for watch in self.watched for tensor in watch() if tensor is not None]
        before = [tensor.detach().clone() for tensor in tensors]
        drawn_from = [torch.default_generator, *generators]
        states = [generator.get_state() for generator in drawn_from]
        result = function()
        for generator, state in zip(drawn_from, states, strict=True):
            generator.set_state(state)
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        return lambda: self.replay(result, function), result

    def replay(self, result: Any, function: Callable[[], Any]) -> None:
        old, new = list[Any](), list[Any]()
        flatten(result, old)
        gradients = [parameter.grad for parameter in self.parameters]
        with torch.enable_grad():
            flatten(function(), new)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        # At its end, an optimizer may have got state of parameters that had no gradient before.
        assert len(old) <= len(new)
        for mine, theirs in zip(old, new, strict=False):
            if isinstance(mine, torch.Tensor) and mine is not theirs:
                mine.detach().copy_(theirs.detach())


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Replays:
    """Let captured steps with ``use_graphs`` set be recorded and replayed without a GPU."""
    replays = Replays()
    monkeypatch.setattr(GraphPool, "of", lambda device: replays)
    return replays
