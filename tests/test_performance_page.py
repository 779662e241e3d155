# SPDX-License-Identifier: Apache-2.0
"""The page on performance says what the benchmarks have written."""

from dataclasses import replace
from pathlib import Path

import pytest

from tools.bench import cold
from tools.bench.cold import Run
from tools.bench.costs import Cost
from tools.bench.exported import Latency
from tools.bench.host import HostCost
from tools.bench.measure import Result as Measured
from tools.bench.one_card import Training
from tools.bench.report import write_json
from tools.bench.rollouts import Result
from tools.bench.sampling import Sampling
from tools.pages import REGION
from tools.performance_page import (
    CASES,
    PAGE,
    RESULTS,
    SECTIONS,
    WAYS,
    Results,
    main,
    written,
)

H200 = {"date": "2026-11-30T12:00:00+00:00", "torch": "2.11.0", "device": "NVIDIA H200"}
TOLD = "NVIDIA H200, PyTorch 2.11.0, 30 November 2026: `python -m tools.bench."


def row(text: str, beginning: str) -> list[str]:
    """Return the cells of the row of a table that begins so."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_page_agrees_with_the_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert written(text) == text


def test_the_page_has_every_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for _, name, _ in REGION.findall(text)] == list(SECTIONS)


def test_cases_are_those_of_the_benchmark() -> None:
    assert set(CASES) == set(cold.CASES)
    assert set(WAYS) == set(cold.DEFAULT)
    assert {it["case"] for it in Results(RESULTS).rows("reference")} < set(CASES)


@pytest.mark.parametrize("name", SECTIONS)
def test_what_was_not_measured_says_how_to(name: str, tmp_path: Path) -> None:
    text = SECTIONS[name](Results(tmp_path))
    assert text.startswith("\nNot measured yet: `python -m tools.bench")


def test_training_steps(tmp_path: Path) -> None:
    runs = [
        Run("FNO-2d", "eager", 5.0, 1.0, 0, 2 * 10**9, 0.0123456, (1.0, 0.5), (0, 0)),
        Run("FNO-2d", "none", 6.0, 1.0, 0, 10**9, 0.002),
        Run("FNO-2d", "blocks", 9.0, 1.0, 2, 10**9, 0.5, (2.0, 0.25), (2, 0)),
        Run("SFNO-1-degree", "whole", error="not done after 40 s"),
    ]
    write_json(tmp_path / "cold-a.json", H200 | {"cores": 16}, results=runs)
    again = Run("FNO-2d", "blocks", 9.0, 1.0, 2, 15 * 10**9, 0.001, (2.0, 0.25), (2, 0))
    other = replace(again, step_s=9.0, commit="0123456789ab")
    write_json(tmp_path / "cold-b.json", H200 | {"cores": 16}, results=[again, other])
    reference = RESULTS / "reference.json"
    (tmp_path / "reference.json").write_text(reference.read_text(encoding="utf-8"))
    results = Results(tmp_path)

    text = SECTIONS["training"](results)
    assert row(text, CASES["FNO-2d"]) == ["8", "12.3", "2.00", "1.00", "-", "8.0"]
    assert row(text, CASES["SFNO-1-degree"]) == ["22.7¹", "-", "-", "-", "-", "-"]
    assert row(text, CASES["DLWP-64"]) == ["12.3", "-", "-", "-", "-", "-"]
    assert "\n¹ the example of torch-harmonics, on an H100\n" in text
    assert "same card: 8.0 times as fast" in text
    assert "NVIDIA H200, PyTorch 2.11.0, 16 cores, 30 November 2026: `" in text

    text = SECTIONS["cold"](results)
    batches = "2.00 s (2), 250 ms (0)"
    assert row(text, CASES["FNO-2d"]) == ["6.00 s", "9.00 s", "-", batches, "-"]
    assert f"- {CASES['SFNO-1-degree']}, whole compiled too: not done after 40 s\n" in text
    assert row(SECTIONS["memory"](results), CASES["FNO-2d"]) == ["-", "2.0", "1.0", "15", "-"]


def test_batches_of_other_sizes_that_take_too_long(tmp_path: Path) -> None:
    run = Run("DLWP-64", "blocks", 9.0, 1.0, 1, 10**9, 0.5, error="not done after 15 s")
    write_json(tmp_path / "cold-a.json", H200, results=[run])
    text = SECTIONS["cold"](Results(tmp_path))
    assert row(text, CASES["DLWP-64"]) == ["-", "9.00 s", "-", "more than 15 s", "-"]
    assert "Not measured" not in text
    # One that was given less time tells nothing new of them, nor one that was not timed at first.
    hurried = replace(run, cold_s=8.0, error="not done after 1 s")
    again = replace(hurried, cold_s=None, first_s=None, step_s=0.25)
    write_json(tmp_path / "cold-c.json", H200, results=[again])
    write_json(tmp_path / "cold-b.json", H200, results=[hurried])
    text = SECTIONS["cold"](Results(tmp_path))
    assert row(text, CASES["DLWP-64"]) == ["-", "8.00 s", "-", "more than 15 s", "-"]
    assert row(SECTIONS["training"](Results(tmp_path)), CASES["DLWP-64"])[3] == "250"


def test_the_geometric_mean_is_of_the_same_card(tmp_path: Path) -> None:
    reference = '{"results": [{"case": "FNO-2d", "step_s": 2.0}, {"case": "FNO-3d", "step_s": 8.0},'
    reference += '{"case": "SongUNet-64", "step_s": 99.0, "note": "on another"}]}'
    (tmp_path / "reference.json").write_text(reference)
    runs = [Run(case, "none", step_s=1.0) for case in ("FNO-2d", "FNO-3d", "SongUNet-64")]
    write_json(tmp_path / "cold.json", H200, results=runs)
    assert "same card: 4.0 times as fast" in SECTIONS["training"](Results(tmp_path))


def test_other_tables(tmp_path: Path) -> None:
    tables = {
        "host": [
            HostCost("Adam", 10, 31.4, 11.2, 6.8, 560.0),
            HostCost("SGD", 10, 31.4, 11.2, 6.8, None),
        ],
        "sampling": [
            Sampling("stochastic", "eager", 3.0, 2 * 10**9, 0.0),
            Sampling("stochastic", "capture", 1.5, 10**9, 2e-6),
        ],
        "rollouts": [
            Result("DLWP-64", "eager", 0.02, 10**9, 0),
            Result("DLWP-64", "capture", 0.01, 2 * 10**9, 3 * 10**6),
        ],
        "exported": [
            Latency("FNO-2d", "eager", 0.002, 0.1, 0.0),
            Latency("FNO-2d", "AOTInductor", 0.001, 30.0, 1e-6),
        ],
        "one_card": [
            Training("SFNO", "nothing", 571 * 10**6, 40 * 10**9, 41 * 10**9, 0.35, True),
            Training("Pangu", "nothing", 64 * 10**6, error="OutOfMemoryError: CUDA out of memory"),
        ],
    }
    for name, results in tables.items():
        write_json(tmp_path / f"{name}.json", H200, results=results)
    texts = {name: SECTIONS[name](Results(tmp_path)) for name in tables}
    for name, text in texts.items():
        assert f"{TOLD}{name} --json tools/bench/results/{name}.json`\n" in text
    assert row(texts["host"], "Adam") == ["10", "31", "11", "7", "560"]
    assert row(texts["host"], "SGD") == ["10", "31", "11", "7", "-"]
    assert row(texts["sampling"], "stochastic | capture")[1:] == ["1.50 s", "2.0", "1.0", "2e-06"]
    assert row(texts["rollouts"], "DLWP-64") == ["20.0 ms", "10.0 ms", "2.0", "3.0"]
    assert row(texts["exported"], "FNO-2d") == ["2.00 ms", "1.00 ms", "30.0 s", "1e-06"]
    captured = ["571 M", "nothing", "40", "41", "350 ms", "captured"]
    assert row(texts["one_card"], "SFNO") == captured
    assert row(texts["one_card"], "Pangu") == ["64 M", "nothing", "-", "-", "-", "out of memory"]


def test_costs(tmp_path: Path) -> None:
    kernels = [Cost("fft", 0.003, 0.6), Cost("mul", 0.001, 0.2)]
    runs = [
        Measured("FNO-2d", "training", variant, 0.005, 0.0, 9, 1.0, 1.0, 10**9, [], kernels)
        for variant in ("eager", "capture+amp")
    ]
    write_json(tmp_path / "costs.json", H200, results=runs)
    text = SECTIONS["costs"](Results(tmp_path))
    assert text.count(CASES["FNO-2d"]) == 1
    assert row(text, CASES["FNO-2d"]) == ["5.00", "`fft` 60%, `mul` 20%"]


def test_the_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: host -->\nold\n<!-- end: host -->\nafter\n")
    write_json(tmp_path / "host.json", H200, results=[HostCost("Adam", 10, 31.4, 11.2, 6.8, 560.0)])
    main(["--page", str(page), "--results", str(tmp_path)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- begin: host -->\n\n| µs |")
    assert text.endswith("<!-- end: host -->\nafter\n")
    assert "old" not in text
