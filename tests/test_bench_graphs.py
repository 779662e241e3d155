# SPDX-License-Identifier: Apache-2.0
"""The benchmark of GraphCast's graphs measures what it builds."""

import json
from pathlib import Path

import pytest

from tools.bench.graphs import main


def test_levels_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "graphs.json"
    main(["--levels", "1", "3", "--grid", "7", "12", "--json", str(path)])
    content = json.loads(path.read_text(encoding="utf-8"))
    first, second = content["results"]
    assert [first["level"], second["level"]] == [1, 3]
    assert first["points"] == second["points"] == 7 * 12
    assert second["edges"] > first["edges"] > 3 * 7 * 12 + 20 * (4**2 - 1)
    assert second["graph_bytes"] > first["graph_bytes"] > 8 * first["edges"]
    for result in (first, second):
        assert result["seconds"] > 0
        assert result["cpu_seconds"] > 0
        assert result["peak_bytes"] >= 0
    assert "level 3" in capsys.readouterr().out
