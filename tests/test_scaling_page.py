# SPDX-License-Identifier: Apache-2.0
"""The tables of steps on several GPUs say what the benchmark has written."""

from tools.bench.scaling_cases import WAYS as TIMED
from tools.bench.scaling_cases import problems
from tools.pages import REGION
from tools.scaling_page import CASES, PAGE, SECTIONS, WAYS, memory, times, written


def test_the_page_agrees_with_the_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for _, name, _ in REGION.findall(text) if name in SECTIONS] == list(SECTIONS)
    assert written(text) == text


def test_cases_are_those_of_the_benchmark() -> None:
    assert set(CASES) < {problem.name for problem in problems(small=True)}
    assert tuple(WAYS) == ("alone", "ddp", "fsdp", "domain-weak", "domain-fixed")
    assert set(WAYS) == set(TIMED)


def test_parts_of_the_speed_of_one_gpu() -> None:
    """Half the time for the same problem is all of two GPUs' speed, and so is as long for two."""
    row = {"gpus": 2, "step_ms": 100.0, "peak_gib": 1.25, "replays": 3}
    rows = {(case, "alone"): {**row, "way": "alone", "gpus": 1, "step_ms": 200.0} for case in CASES}
    rows |= {
        ("AFNO", "ddp"): row | {"way": "ddp", "step_ms": 400.0},
        ("AFNO", "domain-weak"): row | {"way": "domain-weak", "step_ms": 200.0, "replays": 0},
        ("AFNO", "domain-fixed"): row | {"way": "domain-fixed"},
    }
    (line,) = (line for line in times(rows).splitlines() if line.startswith("| AFNO"))
    cells = line.strip("| ").split(" | ")[1:]
    assert cells == [
        "200.0 ms",
        "400 ms (50%)",
        "-",
        "200.0 ms (100%) not recorded",
        "100.0 ms (100%)",
    ]
    (line,) = (line for line in memory(rows).splitlines() if line.startswith("| SFNO"))
    assert line.strip("| ").split(" | ")[1:] == ["1.2", "-", "-", "-", "-"]
