# SPDX-License-Identifier: Apache-2.0
"""The benchmark harness: it times what it says it times, and says so."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils import _pytree as pytree

from physicsnemo import Module
from physicsnemo.testing import noise
from tools.bench import startup
from tools.bench import transforms as transforms_bench
from tools.bench.__main__ import main
from tools.bench.cases import CASES, FNO, QUICK, BenchCase
from tools.bench.fourier_methods import fourier_method
from tools.bench.measure import watch_memory
from tools.bench.plain import PlainFNO
from tools.bench.variants import (
    MODES,
    Variant,
    check_plain,
    forward_step,
    remarks,
    training_step,
)

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
    inputs = pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), case.inputs())
    first_output, first_input = (pytree.tree_leaves(x)[0] for x in (model(*inputs), inputs))
    assert first_output.shape[0] == first_input.shape[0]


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


@pytest.mark.parametrize(("dimension", "modes"), [(1, 3), (2, [4, 2]), (3, 2), (4, [1, 2, 2, 2])])
def test_the_plain_fno_computes_the_same(dimension: int, modes: int | list[int]) -> None:
    arguments = FNO | {"dimension": dimension, "num_fno_modes": modes, "padding": 1}
    grid = (6, 5, 4, 7)[-dimension:]
    case = BenchCase("x", "FNO", arguments, noise(2, 3, *grid), plain=PlainFNO)
    check_plain(case, CPU)
    losses = []
    for plain in (False, True):
        torch.manual_seed(0)  # of the targets
        step = training_step(case, Variant(plain=plain), CPU)
        losses.append(torch.stack([step() for _ in range(3)]))
    torch.testing.assert_close(*losses)


def test_a_plain_version_that_computes_something_else_is_not_timed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Negative(Module):
        def __init__(self, model: Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -self.model(x)

    options = (*FAST, "--mode", "forward", "--variants", "plain", "--case", str(TINY))
    with pytest.raises(SystemExit, match=f"could not be run: {TINY} forward plain"):
        main(options, [replace(TINY, plain=Negative)])
    assert "AssertionError: Tensor-likes are not close" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=f"could not be run: {TINY} forward plain"):
        main(options, [TINY])
    assert f"{TINY} has no plain version to compare with" in capsys.readouterr().err


def test_how_axes_are_transformed_is_noted() -> None:
    (case,) = (case for case in CASES if str(case) == "FNO-3d-small")
    assert remarks(case, Variant(), CPU) == [
        f"12 modes of 28 points by {fourier_method(28, 12, CPU)}",
        f"24 modes of 28 points by {fourier_method(28, 24, CPU)}",
    ]
    wide = {"inp_shape": [72, 150], "patch_size": [1, 1], "embed_dim": 16, "depth": 1}
    case = BenchCase(
        "x", "AFNO", wide | {"in_channels": 1, "out_channels": 1}, noise(1, 1, 72, 150)
    )
    assert remarks(case, Variant(), CPU) == [
        f"76 modes of 150 points by {fourier_method(150, 76, CPU)}",
        f"72 modes of 72 points by {fourier_method(72, 72, CPU)}",
    ]
    assert remarks(TINY, Variant(), CPU) == []
    assert (fourier_method(16, 4, CPU), fourier_method(2**16, 2**14, CPU)) == ("product", "fft")


def test_transforms_are_timed_both_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(transforms_bench, "NUMBERS", {"cpu": 2**10})
    path = tmp_path / "transforms.json"
    sizes = ("--points", "6", "200", "--modes", "4", "5", "100")
    transforms_bench.main(["--device", "cpu", *sizes, "--json", str(path)])
    rows = json.loads(path.read_text())["results"]
    assert [(row["axis"], row["points"], row["modes"], row["chosen"]) for row in rows] == [
        (axis, n, kept, fourier_method(n, kept, CPU))
        for n, kept, axes in [
            (6, 4, ("real", "complex")),
            (6, 5, ("complex",)),
            (200, 4, ("real", "complex")),
            (200, 5, ("real", "complex")),
            (200, 100, ("real", "complex")),
        ]
        for axis in axes
    ]
    assert all(row["product_s"] > 0 and row["fft_s"] > 0 for row in rows)
    assert capsys.readouterr().out.count("complex") == 5


def test_the_ways_that_are_timed_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    operators = []

    def watch(step: Callable[[], None], device: torch.device) -> float:
        with torch.profiler.profile() as profiler:
            step()
        operators.append({event.key for event in profiler.key_averages()})
        return 1.0

    monkeypatch.setattr(transforms_bench, "_time", watch)
    row = transforms_bench._row("complex", 6, 4, CPU)
    assert (row.ratio, row.chosen) == (1, "product")
    assert ["aten::_fft_c2c" in names for names in operators] == [False, True]


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

    result, peak = watch_memory(function, CPU)
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
