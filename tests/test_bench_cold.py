# SPDX-License-Identifier: Apache-2.0
"""The benchmark of first steps, and the processes that it measures in."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch

from physicsnemo.models.gnn_layers import Graph
from tools.bench import cold
from tools.bench.cases import CASES
from tools.bench.own_process import InStages

PROGRAM = """
import time
from tools.bench.own_process import answer

def stages():
    print("of a library")
    yield {"number": 1}
    raise ValueError("no third\\nas said")

def slow():
    yield {"number": 1}
    time.sleep(600)

answer(STAGES())
"""


def started(folder: Path, stages: str) -> InStages:
    (folder / "staged.py").write_text(PROGRAM.replace("STAGES", stages), encoding="utf-8")
    return InStages("staged", variables={"PYTHONPATH": str(folder)})


def test_stages_of_a_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with started(tmp_path, "stages") as process:
        assert process.next(60) == {"number": 1}
        assert process.next(60) == {"error": "ValueError: no third"}
    assert "of a library" in capfd.readouterr().err


def test_a_process_that_takes_too_long(tmp_path: Path) -> None:
    with started(tmp_path, "slow") as process:
        assert process.next(60) == {"number": 1}
        assert process.next(0.1) == {"error": "not done after 0 s"}
        assert process.next(60) == {"error": "the process ended with status -9"}


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    with started(tmp_path, "exit") as process:
        assert process.next(60) == {"error": "the process ended with status 0"}


def test_stages_of_a_case() -> None:
    warm, timed, batches = cold.stages("FNO-2d-small", "none", "cpu", 0.01)
    assert warm["cold_s"] > warm["first_s"] > 0
    assert warm["graphs"] == warm["peak_bytes"] == 0
    assert timed["step_s"] > 0
    assert min(batches["other_batches_s"]) > 0
    assert batches["other_batches_graphs"] == [0, 0]


def test_larger_batches() -> None:
    graph = Graph(torch.tensor([[0, 1], [1, 2]]), 3)
    twice = cold.larger([torch.ones(3, 2), graph, None], 2)
    assert twice[0].shape == (6, 2)
    assert twice[1].edge_index.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]
    assert twice[2] is None


def test_all_cases_exist() -> None:
    assert set(cold.CASES) <= {str(case) for case in CASES}


class Pretended:
    """Stands for a process: compiling the whole takes too long, and other batches are refused."""

    paths: ClassVar[list[str | None]] = []

    def __init__(self, module: str, *arguments: str, variables: dict[str, str]) -> None:
        self.paths.append(variables.get("PYTHONPATH"))
        late = {"error": "not done after 40 s"}
        self.answers = [{"cold_s": 3.0, "first_s": 1.0, "graphs": 2, "peak_bytes": 2**30}]
        self.answers += [{"step_s": 0.001}, {"error": "ValueError: expected a batch of 1"}]
        if "whole" in arguments:
            self.answers = [late]

    def next(self, seconds: float) -> dict[str, Any]:
        return self.answers.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.answers.clear()


def test_what_is_shown_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "InStages", Pretended)
    path = tmp_path / "cold.json"
    command = ["--case", "FNO-2d", "--compiled", "blocks", "whole", "--device", "cpu"]
    cold.main([*command, "--json", str(path)])
    _, blocks, whole = capsys.readouterr().out.splitlines()
    assert " ".join(blocks.split()).startswith("FNO-2d blocks 3.00 s 1.00 s 1.00 ms 1.00 G 2 - -")
    assert blocks.endswith("ValueError: expected a batch of 1")
    assert whole.endswith("not done after 40 s")
    first, second = (cold.Run(**run) for run in json.loads(path.read_text())["results"])
    assert (first.step_s, first.graphs) == (0.001, 2)
    assert (second.compiled, second.step_s) == ("whole", None)


def test_another_checkout_beside_this_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "InStages", Pretended)
    monkeypatch.setattr(Pretended, "paths", [])
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    commit = ("commit", "-q", "--allow-empty", "-m", "first")
    subprocess.run(["git", "-C", tmp_path, *author, *commit], check=True)
    sources = tmp_path / "packages/physicsnemo-core/src"
    sources.mkdir(parents=True)
    path = tmp_path / "cold.json"
    command = ["--case", "FNO-2d", "--compiled", "blocks", "--device", "cpu"]
    cold.main([*command, "--beside", str(tmp_path), "--json", str(path)])
    mine, theirs = Pretended.paths
    assert mine is None
    assert theirs is not None
    assert theirs.split(os.pathsep)[0] == str(sources)
    first, second = (cold.Run(**run) for run in json.loads(path.read_text())["results"])
    assert first.commit is None
    assert second.commit is not None
    assert f"blocks of {second.commit}" in capsys.readouterr().out
    assert {(run.case, run.compiled) for run in (first, second)} == {("FNO-2d", "blocks")}
