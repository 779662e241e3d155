# SPDX-License-Identifier: Apache-2.0
"""The benchmark harness: it times what it says it times, and says so."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from physicsnemo import Module
from tools.bench import startup
from tools.bench.__main__ import main
from tools.bench.cases import CASES, QUICK, BenchCase, noise
from tools.bench.measure import _watch_memory
from tools.bench.variants import MODES, Variant, forward_step, remarks, training_step

CPU = torch.device("cpu")


class FullPrecision(Module):
    """A model that refuses autocast."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("needs [full] precision")
        return self.scale * x


LINEAR = Module.from_torch(torch.nn.Linear)
TINY = BenchCase("tiny", LINEAR, {"in_features": 3, "out_features": 2}, noise(4, 3))
PICKY = BenchCase("picky", FullPrecision, {"size": 3}, noise(4, 3))
FAST = ("--device", "cpu", "--min-run-time", "0.01")


def test_results_are_shown_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "new" / "results.json"
    main([*FAST, "--case", str(TINY), "--variants", "capture", "--json", str(path)], [TINY])
    content = json.loads(path.read_text(encoding="utf-8"))

    keys = {"date", "commit", "python", "torch", "platform", "device", "threads"}
    assert keys < content["environment"].keys()
    assert content["failures"] == []
    found = [(row["case"], row["mode"], row["variant"]) for row in content["results"]]
    assert found == [(str(TINY), m, v) for m in MODES for v in ("eager", "capture")]
    for row in content["results"]:
        assert row["median_s"] > 0
        assert row["warmup_s"] > 0
        assert row["iqr_s"] >= 0
        assert row["blocks"] >= 3
        assert row["peak_tensor_bytes"] > 0
    for eager, capture in (content["results"][:2], content["results"][2:]):
        assert eager["ratio_to_eager"] == 1
        assert capture["ratio_to_eager"] == eager["median_s"] / capture["median_s"]
        assert (eager["notes"], capture["notes"]) == ([], ["no CUDA graphs on cpu"])
    shown = capsys.readouterr().out
    assert shown.count("no CUDA graphs on cpu") == 2
    assert f"{TINY}, train" in shown


def test_a_variant_that_fails_is_reported_beside_those_that_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "results.json"
    options = ("--case", str(PICKY), "--mode", "train", "--variants", "amp", "--json", str(path))
    with pytest.raises(SystemExit, match=f"could not be run: {PICKY} train amp"):
        main([*FAST, *options], [PICKY])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert [row["variant"] for row in content["results"]] == ["eager"]
    assert [row["variant"] for row in content["failures"]] == ["amp"]
    shown = capsys.readouterr()
    assert "fails: RuntimeError: needs [full] precision" in shown.out
    assert "Traceback" in shown.err


def test_every_case_is_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["--list"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert set(map(str, CASES)) < set(names)
    assert set(QUICK) < set(map(str, CASES))
    assert len(set(map(str, CASES))) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_fits_its_model(case: BenchCase) -> None:
    with torch.device("meta"):  # shapes only: some cases are too large to be computed in a test
        model = case.build()
    outputs = model(*(tensor.to("meta") for tensor in case.inputs()))
    assert outputs.shape[0] == case.inputs()[0].shape[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--case", "FNO-9d"], r"invalid choice: 'FNO-9d' \(choose from .*FNO-2d"),
        (["--variants", "eager,fast"], "unknown variant 'fast': expected eager, or one or more"),
        (["--variants", "amp+amp"], r"unknown variant 'amp\+amp'"),
        (["--variants", "eager+amp"], r"unknown variant 'eager\+amp'"),
        (["--variants", ""], "unknown variant ''"),
        (["--device", "toaster"], "argument --device: .*toaster"),
        (["--mode", "backward"], "invalid choice: 'backward'"),
    ],
)
def test_unknown_names_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(options)
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("variant", ["capture", "amp", "capture+amp"])
def test_variants_of_a_training_step_do_the_same(variant: str) -> None:
    losses = {}
    for name in ("eager", variant):
        torch.manual_seed(0)  # of the targets
        step = training_step(TINY, Variant.parse(name), CPU)
        losses[name] = torch.stack([step() for _ in range(5)])
    assert losses["eager"][-1] < losses["eager"][0]
    torch.testing.assert_close(losses[variant], losses["eager"], rtol=0.02, atol=0)


@pytest.mark.parametrize("variant", ["eager", "amp", "capture"])
def test_a_forward_step_returns_the_prediction_without_gradient(variant: str) -> None:
    prediction = forward_step(TINY, Variant.parse(variant), CPU)()
    expected = TINY.build()(*TINY.inputs())
    assert not prediction.requires_grad
    torch.testing.assert_close(prediction.float(), expected, rtol=0.02, atol=0.02)


def test_amp_runs_in_low_precision_where_the_metadata_allows_it() -> None:
    case = BenchCase("x", "FullyConnected", {"in_features": 3, "layer_size": 4}, noise(2, 3))
    outputs = {name: forward_step(case, Variant.parse(name), CPU)() for name in ("amp", "eager")}
    assert {name: output.dtype for name, output in outputs.items()} == {
        "amp": torch.bfloat16,
        "eager": torch.float32,
    }


def test_what_the_metadata_does_not_allow_is_noted() -> None:
    cuda = torch.device("cuda")
    notes = {
        "amp": ["autocast, though the metadata does not set amp_gpu"],
        "capture": ["no CUDA graphs: the metadata does not set cuda_graphs"],
        "capture+amp": [
            "no autocast: the metadata does not set amp_gpu",
            "no CUDA graphs: the metadata does not set cuda_graphs",
        ],
        "compile": [],
    }
    assert {name: remarks(TINY, Variant.parse(name), cuda) for name in notes} == notes


def test_peak_memory_counts_what_was_allocated_at_once() -> None:
    def function() -> torch.Tensor:
        first = torch.ones(2**18)  # 1 MiB
        second = first + 1
        del first
        return second + 1

    result, peak = _watch_memory(function, CPU)
    assert result[0] == 3
    assert peak == pytest.approx(2 * 2**20, rel=0.001)


def test_startup_compares_statements_with_the_first() -> None:
    slow = "import time; time.sleep(0.3)"
    first, second = startup.measure(["pass", slow], sys.executable, runs=2)
    assert first.ratio_to_baseline == 1
    assert second.ratio_to_baseline == second.median_s / first.median_s > 1
    assert second.min_s >= 0.3
    assert (second.statement, second.runs) == (slow, 2)


def test_startup_measures_physicsnemo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "startup.json"
    startup.main(["--runs", "2", "--json", str(path)])
    statements = [row["statement"] for row in json.loads(path.read_text())["results"]]
    assert tuple(statements) == startup.STATEMENTS
    shown = capsys.readouterr().out
    assert all(statement in shown for statement in statements)


def test_startup_needs_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        startup.main(["--runs", "1"])
    assert "expected at least 2 runs, got 1" in capsys.readouterr().err
