# SPDX-License-Identifier: Apache-2.0
"""The benchmark of several GPUs goes on after failures, and tells communication apart."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tools.bench.overlap import divide, profiled, running_alone, union
from tools.workspace import ROOT

PROBLEMS = """
import os

import torch

from physicsnemo.models.mlp import FullyConnected
from tools.bench import scaling
from tools.bench.scaling_cases import Problem


def good(rows):
    return FullyConnected(8, layer_size=4, out_features=2)


def bad(rows):
    if os.environ["RANK"] == "1":
        raise ValueError("the second process has no model")
    return good(rows)


def sample(rows):
    return (torch.randn(rows, 8),)


scaling.problems = lambda small: [Problem("bad", 8, bad, sample), Problem("good", 8, good, sample)]
scaling.main()
"""


def test_time_of_kernels_by_kind() -> None:
    ms = 10**6
    found = divide(
        [
            ("gemm", (0, 4 * ms)),
            ("ncclDevKernel_AllReduce(args)", (2 * ms, 7 * ms)),
            ("gemm", (6 * ms, 8 * ms)),
            ("ncclDevKernel_SendRecv(args)", (9 * ms, 10 * ms)),
        ]
    )
    assert (found.step, found.computation, found.communication) == (10, 6, 6)
    assert (found.exposed, found.idle) == (3, 1)
    assert found.worst == [("ncclDevKernel_AllReduce", 2), ("ncclDevKernel_SendRecv", 1)]
    assert divide([]).step == 0


def test_spans_against_single_points() -> None:
    torch.manual_seed(0)
    for _ in range(200):
        few, many = ([_span() for _ in range(count)] for count in (3, 6))
        others = union(many)
        left = _points(running_alone(few, others))
        assert left == _points(few) - _points(others)
        assert _points(others) == _points(many)
        assert all(before[1] < after[0] for before, after in pairwise(others))


def _span() -> tuple[int, int]:
    start, size = torch.randint(0, 40, (2,)).tolist()
    return start, start + size // 4 + 1


def _points(spans: list[tuple[int, int]]) -> set[int]:
    return {point for start, end in spans for point in range(start, end)}


def test_profile_without_communication() -> None:
    x = torch.randn(200, 200)
    found = profiled(lambda: x @ x, 2, torch.device("cpu"))
    assert 0 < found.computation <= found.step
    assert found.communication == found.exposed == 0


@pytest.mark.distributed
def test_failures_of_one_process(tmp_path: Path) -> None:
    script, path = tmp_path / "script.py", tmp_path / "rows.json"
    script.write_text(PROBLEMS, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    options = ["--case", "bad", "good", "--way", "alone", "ddp", "--json", str(path)]
    subprocess.run(
        [
            *torchrun,
            "--nproc-per-node",
            "2",
            "--max-restarts",
            "3",
            str(script),
            *options,
            "--device",
            "cpu",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    errors = {(row["case"], row["way"]): row["error"] for row in rows}
    assert list(errors) == [("bad", "alone"), ("bad", "ddp"), ("good", "alone"), ("good", "ddp")]
    failed = errors.pop(("bad", "ddp"))
    assert failed == "process 1: ValueError: the second process has no model"
    assert not any(errors.values())
    assert all((row["step_ms"] is None) == bool(row["error"]) for row in rows)
