# SPDX-License-Identifier: Apache-2.0
"""The files of the page on export, built and run as it says: a program of C++ that runs a model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from physicsnemo.models.mlp import FullyConnected
from physicsnemo.utils import export
from tools.workspace import ROOT

PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
FILES = {"cpp": "main.cpp", "cmake": "CMakeLists.txt"}


def block(language: str, start: str) -> str:
    """Return the one block of code in a language that begins so."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    (found,) = (it for it in blocks if it.startswith(start))
    return str(found)


@pytest.mark.slow
def test_a_program_of_c_plus_plus_runs_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bin = Path(sys.executable).parent  # of the python that the page calls
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    torch.manual_seed(0)
    model = FullyConnected(in_features=3, layer_size=16, out_features=1, num_layers=2)
    export(model, "heat.pt2", (torch.randn(8, 3),), dynamic_batch=True)
    for language, name in FILES.items():
        Path(name).write_text(block(language, f"{'//' if language == 'cpp' else '#'} {name}\n"))
    done = subprocess.run(["bash", "-ec", block("bash", "torch=")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Such as "0.01 *\n 7.4296\n ...", of which the first line may be missing.
    scale, numbers = re.search(
        r"(?:([\d.e+-]+) \*\n)?((?: *-?[\d.]+\n)+)\[ CPU", done.stdout
    ).groups()
    found = float(scale or 1) * torch.tensor([float(it) for it in numbers.split()])
    with torch.no_grad():
        expected = model.eval()(torch.ones(5, 3))[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
