# SPDX-License-Identifier: Apache-2.0
"""The quickstart of the site, pasted where there are wheels and no clone, and what it says."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tools.environment import Environment
from tools.workspace import closure, packages

CHECKS = """
assert error < 0.04, error

# What the model learned is Burgers' equation: the Cole-Hopf transformation solves it exactly.
viscosity, k = 0.1, torch.arange(33, dtype=torch.float64)
u = x[:, 0].double()
integral = irfft(torch.where(k > 0, rfft(u) / (1j * k.clamp(min=1)), 0))
phi = rfft(torch.exp(-integral / (2 * viscosity))) * torch.exp(-viscosity * k**2)
exact = -2 * viscosity * irfft(1j * k * phi) / irfft(phi)

def distance(found, true=exact):
    return torch.linalg.norm(found - true) / torch.linalg.norm(true)

assert distance(y[:, 0]) < 0.01, distance(y[:, 0])

# Neither the start, nor diffusion alone, nor any linear map comes near.
seen = start[:2000, 0].double().cpu(), end[:2000, 0].double().cpu()
linear = torch.linalg.lstsq(*seen, driver="gelsd").solution
assert 0.55 < distance(u @ linear) < 0.6, distance(u @ linear)  # which depends on the processor
assert distance(irfft(rfft(u) * torch.exp(-viscosity * k**2))) > 0.5
assert distance(u) > 0.5

program = torch.export.load("burgers.pt2").module()
torch.testing.assert_close(program(x[:7]), same(x[:7]))
print("checked")
"""


@pytest.fixture
def environment(wheels: Mapping[str, Path], tmp_path: Path) -> Environment:
    """An environment with FNO as wheels."""
    parts = closure("physicsnemo-fno", packages())
    made = Environment.create(tmp_path / "environment")
    made.borrow(*(text for part in parts for text in part.dependencies))
    made.install("--no-index", "--no-deps", *(wheels[part.name] for part in parts))
    return made


@pytest.fixture
def script(script_on: Callable[[str], str]) -> str:
    """The script on the page."""
    return script_on("quickstart")


def test_it_is_short(script: str) -> None:
    assert len([line for line in script.splitlines() if line]) < 30


def test_it_runs_as_it_is_written(
    script: str, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads would wait for those of other tests
    Path("pasted.py").write_text(script + CHECKS, encoding="utf-8")
    environment.run("-W", "error", "pasted.py")
