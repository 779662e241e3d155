# SPDX-License-Identifier: Apache-2.0
"""The models train unchanged under other engines: Lightning Fabric, accelerate and Ray Train."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from physicsnemo import Module
from tests.engines.training import HALF, TASKS, train_alone
from tools.workspace import ROOT

pytestmark = pytest.mark.engines
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
STARTS = {"fabric": TORCHRUN, "accelerate": TORCHRUN, "ray": ["-m"]}
RUNS = [(engine, parallel) for engine in STARTS for parallel in ("data", "sharded")]

Trained = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a function that trains with an engine, once from the start and once from halfway."""
    folders: dict[tuple[str, str], Path] = {}

    def run(engine: str, parallel: str) -> Path:
        if (engine, parallel) not in folders:
            folder = tmp_path_factory.mktemp(f"{engine}_{parallel}")
            script = [sys.executable, *STARTS[engine], f"tests.engines.with_{engine}"]
            for start in ("first", "again"):
                start_and_wait(*script, str(folder), parallel, start)
            folders[engine, parallel] = folder
        return folders[engine, parallel]

    return run


@pytest.mark.parametrize("way", ["own", "captured"])
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("engine", "parallel"), RUNS)
def test_trained_saved_and_resumed(
    trained: Trained, engine: str, parallel: str, name: str, way: str
):
    folder = trained(engine, parallel) / name / way
    kind = type(TASKS[name].build())
    whole, resumed = (kind.from_checkpoint(folder / f"{it}.mdlus") for it in ("whole", "resumed"))
    [saved] = (folder / "run").glob(f"*.0.{HALF}.mdlus")
    halfway = Module.from_checkpoint(saved)
    assert not same(whole, halfway)
    assert same(whole, resumed)
    if not TASKS[name].draws:
        for one, other in zip(whole.parameters(), train_alone(name).parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def same(one: Module, other: Module) -> bool:
    """Tell whether two models have equal weights."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(key == name and torch.equal(mine, its) for (key, mine), (name, its) in pairs)


def start_and_wait(*command: str) -> None:
    """Run a command from the repository, and show what it says if it fails."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # its processes import much, and slowly
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
