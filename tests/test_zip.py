# SPDX-License-Identifier: Apache-2.0
"""Packages work from inside a zip."""

import subprocess
import sys
import zipfile
from pathlib import Path

import importlib_metadata

ZIPPED = """
import sys
archive, folder = sys.argv[1:]
sys.path[:] = [archive, *(path for path in sys.path if "/packages/" not in path)]
import physicsnemo
assert physicsnemo.__file__.startswith(archive), physicsnemo.__file__
from physicsnemo.registry import ModelRegistry, shipped_models
from physicsnemo.core.install.aliases import current_name
assert "FullyConnected" in ModelRegistry().list_models()
assert shipped_models()["FNO"]["distribution"] == "physicsnemo-fno"
assert current_name("modulus.models.fno.fno", "FNO")[0] == "physicsnemo.models.fno.fno"
assert physicsnemo.__version__
from physicsnemo.models.mlp import FullyConnected
import physicsnemo.models.mlp
assert physicsnemo.models.mlp.__file__.startswith(archive)
FullyConnected(2, 4, 1, 1).save(f"{folder}/model.mdlus")
assert type(physicsnemo.Module.from_checkpoint(f"{folder}/model.mdlus")) is FullyConnected
from click.testing import CliRunner
from physicsnemo.cli import main
arguments = ["new-plugin", "zip-lab", "--directory", folder]
result = CliRunner(catch_exceptions=False).invoke(main, arguments)
assert result.exit_code == 0, result.output
"""


def test_packages_work_from_a_zip(tmp_path):
    archive, packages = tmp_path / "packages.zip", Path(__file__).parents[1] / "packages"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("physicsnemo-core", "physicsnemo-mlp", "physicsnemo-nn"):
            source = packages / name / "src"
            for path in source.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    file.write(path, path.relative_to(source))
            found = importlib_metadata.distribution(name)
            folder = f"{name.replace('-', '_')}-{found.version}.dist-info"
            for member in ("METADATA", "entry_points.txt"):
                file.writestr(f"{folder}/{member}", found.read_text(member) or "")
    command = [sys.executable, "-c", ZIPPED, str(archive), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {
        str(path.relative_to(tmp_path / "zip-lab")) for path in (tmp_path / "zip-lab").rglob("*")
    }
    assert {"pyproject.toml", ".gitignore", "src/zip_lab/model.py", "tests/cases.py"} <= made
    assert {"LICENSE", ".github/workflows/ci.yml", ".github/workflows/publish.yml"} <= made
