# SPDX-License-Identifier: Apache-2.0
"""What ``physicsnemo migrate`` writes works without any path of another release."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from physicsnemo.cli.migration import migrated
from physicsnemo.core.install.aliases import absolute, renames
from physicsnemo.core.install.paths import TABLE, Row

WITHOUT_FORMER_PATHS = """
import sys, warnings
import physicsnemo
from physicsnemo.core.install.former_paths import FormerPaths
sys.meta_path[:] = [it for it in sys.meta_path if not isinstance(it, FormerPaths)]
"""


def paths(row: Row) -> Iterator[tuple[str, str, str]]:
    """Yield each path of a row: a former module, a name in it, and where that is here."""
    for module in map(absolute, (*row.of_1.split(), *row.of_2.split())):
        for former, present in renames(row):
            here = f"{absolute(row.here.split()[0])}.{present}" if row.here else ""
            yield module, former, here


def ways(module: str, name: str) -> list[str]:
    """Return code that reaches a name, each of three or four lines that return it."""
    package, _, last = module.rpartition(".")
    return [
        f"    from {module} import {name} as found\n    return found\n",
        f"    import {module}\n    return {module}.{name}\n",
        f"    import {module} as former\n    return former.{name}\n",
        *([f"    from {package} import {last}\n    return {last}.{name}\n"] if package else []),
    ]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-"], input=WITHOUT_FORMER_PATHS + code, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("topic", TABLE)
def test_each_name_is_the_same_by_the_paths_written(topic):
    sources, checks = [], ["from importlib import import_module\n"]
    for module, name, here in (it for row in TABLE[topic] for it in paths(row) if it[2]):
        place, _, present = here.rpartition(".")
        for way in ways(module, name):
            function = f"reach_{len(sources)}"
            sources.append(f"def {function}():\n{way}\n")
            value = f"getattr(import_module({place!r}), {present!r})"
            checks.append(f"assert {function}() is {value}, {way!r}\n")
    new = migrated("".join(sources).encode())
    assert not new.remarks
    assert migrated(new.source).source == new.source
    run(new.source.decode() + "".join(checks))


@pytest.mark.parametrize("topic", TABLE)
def test_each_name_that_is_not_here_is_left_and_told(topic):
    for row in TABLE[topic]:
        gone = [it[:2] for it in paths(row) if not it[2]]
        sources = [f"def reach():\n{way}" for path in gone for way in ways(*path)]
        new = migrated("\n".join(sources).encode())
        assert migrated(new.source).source == new.source
        told = [it.path for it in new.remarks if it.text.startswith(row.reason)]
        assert {f"{module}.{name}" for module, name in gone} == {*told}


@pytest.mark.parametrize("release", ["1.2", "2.2"])
def test_a_tree(release, tmp_path):
    """The files of a small project of each release, as written to the disk."""
    layers, nets, files = {
        "1.2": ("modulus.models.layers", "modulus.models.diffusion", "modulus.launch.utils"),
        "2.2": ("physicsnemo.nn", "physicsnemo.models.diffusion_unets", "physicsnemo.utils"),
    }[release]
    root = layers.partition(".")[0]
    (tmp_path / "nets.py").write_text(
        f"import {root}\nfrom {layers} import FCLayer, SirenLayer, SpectralConv2d\n"
        f"import {nets} as diffusion\n\n\n"
        f"class Net({root}.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.first = FCLayer(2, 3)\n        self.last = SirenLayer(3, 1)\n\n"
        "    def forward(self, x):\n        return self.last(self.first(x))\n\n\n"
        "UNET = diffusion.SongUNet\n"
    )
    (tmp_path / "train.py").write_text(
        f"import torch\nfrom {files} import load_checkpoint, save_checkpoint\n"
        "from nets import Net, SpectralConv2d, UNET\n\n"
        "net = Net()\nsave_checkpoint('run', models=net, epoch=3)\n"
        "assert load_checkpoint('run', models=net) == 3\n"
        "print(UNET.__module__, SpectralConv2d.__module__, net(torch.ones(1, 2)).shape)\n"
    )
    command = [sys.executable, "-c", "from physicsnemo.cli import main; main()"]
    done = subprocess.run(
        [*command, "migrate", "--write", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 files changed" in done.stderr or release == "2.2"
    assert "modulus" not in "".join(it.read_text() for it in tmp_path.glob("*.py"))
    code = (
        "import os, runpy\nos.chdir({0!r})\nsys.path.insert(0, {0!r})\nrunpy.run_path('train.py')"
    )
    output = run(code.format(str(tmp_path)))
    unet, convolution = "models.diffusion.song_unet._backbone", "models.fno.spectral_layers"
    assert output == f"physicsnemo.{unet} physicsnemo.{convolution} torch.Size([1, 1])\n"


def test_scripts_of_2_2_need_nothing_by_hand():
    new = migrated(Path(__file__).with_name("test_scripts_of_2_2.py").read_bytes())
    assert not new.remarks
