# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo env``."""

import json
import platform

import importlib_metadata
import torch


def test_what_runs_here(install, physicsnemo, tmp_path):
    install("env-lab", "[physicsnemo.models]\nEnvWaves = env_lab:Waves\n")
    metadata = tmp_path / "env_lab-1.0.dist-info" / "METADATA"
    needs = "Requires-Dist: pytest\nRequires-Dist: moto; extra == 'late'\nRequires-Dist: gone>=1\n"
    metadata.write_text(metadata.read_text() + needs)
    found = json.loads(physicsnemo("env", "--json").stdout)
    assert found["Python"].split()[0] == platform.python_version()
    assert found["PyTorch"].startswith(f"{torch.__version__}, ")
    assert ("GPU" in found) != torch.cuda.is_available()
    packages = found["packages"]
    assert packages["env-lab"] == "1.0"
    for name in ("physicsnemo-core", "pytest", "torch", "numpy"):
        assert packages[name] == importlib_metadata.version(name)
    assert not {"moto", "gone"} & packages.keys()
    lines = physicsnemo("env").stdout.splitlines()
    assert lines[0].startswith("Python ")
    assert ["env-lab", "1.0"] in [line.split() for line in lines]


def test_a_package_without_metadata_stops_nothing(install, physicsnemo, tmp_path):
    install("bare-lab", "[physicsnemo.models]\nBare = bare_lab:Waves\n")
    (tmp_path / "bare_lab-1.0.dist-info" / "METADATA").write_text("")
    assert json.loads(physicsnemo("env", "--json").stdout)["packages"]["bare-lab"] == "1.0"
