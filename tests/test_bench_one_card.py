# SPDX-License-Identifier: Apache-2.0
"""The benchmark of what fits on one card."""

import json
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch.utils.checkpoint import _CheckpointFrame

from tools.bench import one_card
from tools.bench.one_card import AGAIN, BLOCKS, CASES, NOTHING
from tools.bench.traffic import Case

OUT_OF_MEMORY = {"error": "OutOfMemoryError: CUDA out of memory. Tried to allocate 8.00 GiB."}


def small(name: str) -> Case:
    (case,) = (case for case in CASES["small"] if case.name == name)
    return case


def test_small_cases_are_of_the_same_models() -> None:
    names = [{case.name for case in cases} for cases in CASES.values()]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", ["AFNO", "SFNO", "GraphCastNet"])
def test_a_training_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed again, is: each model has frames of checkpoints then, and only then."""
    frames = []
    begin = _CheckpointFrame.__init__
    monkeypatch.setattr(
        _CheckpointFrame, "__init__", lambda *args: frames.append(0) or begin(*args)
    )
    for again in (NOTHING, AGAIN.get(name, BLOCKS)):
        frames.clear()
        built, trained = one_card.stages(small(name), again, torch.device("cpu"), 0.001)
        assert built["parameters"] > 100
        assert trained["step_s"] > 0
        assert trained["captured"] is False
        assert bool(frames) == (again != NOTHING)


def test_models_without_repeated_blocks() -> None:
    stages = one_card.stages(small("HEALPixUNet"), BLOCKS, torch.device("cpu"), 0.001)
    assert next(stages)["parameters"] > 100
    with pytest.raises(ValueError, match="HEALPixUNet has none"):
        next(stages)


class Pretended:
    """Stands for a process in which GraphCast fits with recomputation alone, and SFNO never."""

    def __init__(self, module: str, *arguments: str) -> None:
        fits = "SFNO" not in arguments and (AGAIN["GraphCastNet"] in arguments)
        step = {"step_s": 0.5, "peak_bytes": 2**36, "reserved_bytes": 2**36, "captured": True}
        self.answers = [{"parameters": 3_000_000}, step if fits else OUT_OF_MEMORY]
        if "AFNO" in arguments:
            self.answers = [{"error": "not done after 40 s"}]

    def next(self, seconds: float) -> dict[str, Any]:
        return self.answers.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert not self.answers


def test_what_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_card, "InStages", Pretended)
    path = tmp_path / "one_card.json"
    command = ["--case", "GraphCastNet", "SFNO", "AFNO", "--device", "cpu", "--json", str(path)]
    one_card.main(command)
    _, first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(OUT_OF_MEMORY["error"])
    assert second.split()[-7:] == ["64.0", "GiB", "64.0", "GiB", "500", "ms", "yes"]
    results = [one_card.Training(**it) for it in json.loads(path.read_text())["results"]]
    assert [(it.case, it.again, it.step_s) for it in results] == [
        ("GraphCastNet", NOTHING, None),
        ("GraphCastNet", AGAIN["GraphCastNet"], 0.5),
        ("SFNO", NOTHING, None),
        ("SFNO", BLOCKS, None),
        ("AFNO", NOTHING, None),
    ]
