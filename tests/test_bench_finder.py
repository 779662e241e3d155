# SPDX-License-Identifier: Apache-2.0
"""The benchmark that finds what a training step takes of models that have no other one."""

import json
from pathlib import Path
from typing import Any, Self

import pytest

from tools.bench import finder
from tools.bench.cases import CASES
from tools.performance_page import RESULTS, Results
from tools.site.facts import all_facts


def test_every_model_is_measured_by_some_benchmark() -> None:
    timed = {row["case"] for name in ("cold", "one_card") for row in Results(RESULTS).rows(name)}
    cases = finder.lacking()
    assert set(cases) <= set(map(str, CASES))
    assert len(set(cases)) == len(cases)
    for model, facts in all_facts().items():
        assert {model, *facts.bench} & {*timed, *cases}
    assert not {row["case"] for row in Results(RESULTS).rows("cold")} & set(cases)


def test_cases_in_one_process() -> None:
    first, second = finder.stages(["FullyConnected-32", "FNO-2d-small"], "cpu", 0.01)
    assert (first["inputs"], second["inputs"]) == (["1024x32"], ["8x3x32x32"])
    assert first["parameters"] == (32 + 1) * 512 + 6 * (512 + 1) * 512
    # Weights, their gradients, and two moments of each, all in float32.
    assert first["peak_bytes"] > 4 * 4 * first["parameters"]
    assert min(first["step_s"], second["step_s"]) > 0
    assert (first["captured"], first["amp"]) == (False, True)


class Pretended:
    """Stands for a process: of the cases that it is given, those called late are not done."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.cases = list(arguments[arguments.index("--case") + 1 :])

    def next(self, seconds: float) -> dict[str, Any]:
        if self.cases.pop(0) == "late":
            return {"error": "not done after 15 s"}
        numbers = {"parameters": 12_000_000, "step_s": 0.002, "peak_bytes": 3 * 10**9}
        return numbers | {"inputs": ["2x3"], "captured": True, "amp": False}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.cases.clear()


def test_the_rest_goes_on_after_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "InStages", Pretended)
    path = tmp_path / "finder.json"
    finder.main(["--device", "cpu", "--case", "a", "late", "b", "--json", str(path)])
    _, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    fine = ["12.00", "2.00", "ms", "3.00", "yes", "no"]
    late = [*["-"] * 5, "not", "done", "after", "15", "s"]
    assert lines == [["a", *fine], ["late", *late], ["b", *fine]]
    runs = [finder.Run(**run) for run in json.loads(path.read_text())["results"]]
    assert [(run.case, run.step_s) for run in runs] == [("a", 0.002), ("late", None), ("b", 0.002)]


def test_what_time_was_too_short_for_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "InStages", Pretended)
    path = tmp_path / "finder.json"
    finder.main(["--device", "cpu", "--total", "0", "--case", "a", "b", "--json", str(path)])
    runs = [finder.Run(**run) for run in json.loads(path.read_text())["results"]]
    assert [(run.case, run.error) for run in runs] == [
        (name, "not tried: time was over") for name in ("a", "b")
    ]
