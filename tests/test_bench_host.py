# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the host's work in replayed steps."""

import json
import random
from pathlib import Path

import pytest
import torch

from physicsnemo import ModelMetaData, Module
from tools.bench import host

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="looks at the stand-in")


@pytest.mark.parametrize("name", ["FullyConnected, float32, Adam", "FullyConnected, float16, Adam"])
def test_replays_are_timed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "host.json"
    host.main(["--only", name, "--calls", "3", "--json", str(path), "--profile"])
    shown = capsys.readouterr().out
    assert name in shown
    assert "guards.py" in shown  # in the profile
    (result,) = json.loads(path.read_text())["results"]
    assert result["case"] == name
    assert result["parameters"] == 10
    assert result["host_us"] > result["copies_us"] > 0
    assert result["step_us"] is None


class Drawing(torch.nn.Linear):
    """A layer with noise of the host's, which no graph can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * random.random()


@pytest.mark.parametrize("layer", [torch.nn.Linear, Drawing])
def test_eager_calls_are_not_taken_for_replays(layer: type[torch.nn.Module]) -> None:
    build = Module.from_torch(layer, ModelMetaData(cuda_graphs=True))
    case = host.Case("a layer", lambda: build(2, 2), ((3, 2), (3, 2)))
    if layer is Drawing:
        with pytest.raises(RuntimeError, match="expected replays of a CUDA graph, got eager calls"):
            host.measure(case, 2)
    else:
        assert host.measure(case, 2).parameters == 2


def test_unknown_cases_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        host.main(["--only", "nothing like it"])
    assert "no case is named like 'nothing like it'" in capsys.readouterr().err
