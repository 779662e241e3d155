# SPDX-License-Identifier: Apache-2.0
"""``physicsnemo migrate``, on sources as they are written for other releases."""

import subprocess
import sys
from textwrap import dedent

import pytest

from physicsnemo.cli.migration import mentions, migrated


def text(source):
    return dedent(source).lstrip("\n")


def after(source):
    """Return a source text after it, of which a second pass finds nothing to change."""
    new = migrated(text(source).encode())
    assert migrated(new.source).source == new.source
    return new.source.decode()


def remarks(source):
    return [(line, path) for line, path, _ in migrated(text(source).encode()).remarks]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            "from physicsnemo.launch.utils import load_checkpoint, save_checkpoint\n",
            "from physicsnemo.utils import load_checkpoint, save_checkpoint\n",
        ),
        (
            "from modulus.models.layers import FCLayer\n",
            "from physicsnemo.nn import FCLayer\n",
        ),
        (
            "import modulus.launch.utils.checkpoint as ck  # of 1.x\n",
            "import physicsnemo.utils.checkpoint as ck  # of 1.x\n",
        ),
        (
            "from physicsnemo.models.diffusion_unets import CorrDiffRegressionUNet\n",
            "from physicsnemo.models.diffusion.unet import UNet as CorrDiffRegressionUNet\n",
        ),
        (
            "from physicsnemo.models.rnn.layers import _ConvLayer as ConvLayer\n",
            "from physicsnemo.models.rnn.layers import ConvLayer\n",
        ),
        (
            "from physicsnemo.core.meta import ModelMetaData\n"
            "from physicsnemo.core.module import Module as Base\n",
            "from physicsnemo import ModelMetaData\nfrom physicsnemo import Module as Base\n",
        ),
    ],
)
def test_a_line(before, expected):
    assert after(before) == expected


def test_names_of_one_import_that_are_in_several_modules():
    before = """
        # layers
        from physicsnemo.models.layers import FCLayer, get_activation, SpectralConv1d  # all

        if True:
            from physicsnemo.models.layers import FCLayer, get_activation
        if True: from physicsnemo.models.layers import FCLayer, SpectralConv1d
    """
    expected = """
        # layers
        from physicsnemo.nn import FCLayer
        from physicsnemo.nn.activations import get_activation
        from physicsnemo.models.fno.spectral_layers import SpectralConv1d  # all

        if True:
            from physicsnemo.nn import FCLayer
            from physicsnemo.nn.activations import get_activation
        if True: from physicsnemo.nn import FCLayer; \
from physicsnemo.models.fno.spectral_layers import SpectralConv1d
    """
    assert after(before) == text(expected)


def test_comments_stay_with_their_names():
    before = """
        from physicsnemo.models.layers import (  # of 1.2
            FCLayer,  # dense
            # in one dimension
            SpectralConv1d,
            WeightNormLinear,
        )
    """
    expected = """
        from physicsnemo.nn import (
            FCLayer,  # dense
            WeightNormLinear,
        )
        from physicsnemo.models.fno.spectral_layers import (
            # in one dimension
            SpectralConv1d,
        )
    """
    assert after(before) == text(expected)
    whole = before.replace("SpectralConv1d", "FCLayer as Dense")
    assert after(whole) == text(whole).replace("models.layers", "nn")


def test_dotted_uses():
    before = """
        import os, physicsnemo.launch.utils
        import physicsnemo.models.diffusion_unets
        import modulus.registry

        def load(path, physicsnemo_=None):
            net = (physicsnemo.models.diffusion_unets.SongUNet)(8, 1, 1)
            other = physicsnemo.models.diffusion_unets.CorrDiffRegressionUNet.from_checkpoint(path)
            physicsnemo.launch.utils.load_checkpoint(path, models=net, modulus=1)
            return physicsnemo.Module, modulus.registry.ModelRegistry(), modulus
    """
    expected = """
        import os, physicsnemo.utils
        import physicsnemo.models.diffusion.unet
        import physicsnemo.registry

        def load(path, physicsnemo_=None):
            net = (physicsnemo.models.diffusion.SongUNet)(8, 1, 1)
            other = physicsnemo.models.diffusion.unet.UNet.from_checkpoint(path)
            physicsnemo.utils.load_checkpoint(path, models=net, modulus=1)
            return physicsnemo.Module, physicsnemo.registry.ModelRegistry(), physicsnemo
    """
    assert after(before) == text(expected)


def test_modules_by_another_name():
    before = """
        import physicsnemo.models.layers as layers
        from physicsnemo.diffusion import samplers
        from physicsnemo.launch import utils as helpers

        def build():
            import physicsnemo.models.diffusion_unets as nets
            first = layers.FCLayer(3, 4), layers.SpectralConv2d, helpers.save_checkpoint
            second = nets.SongUNet, nets.CorrDiffRegressionUNet, samplers.stochastic_sampler

        layers = None
    """
    expected = """
        import physicsnemo.nn as layers
        import physicsnemo.models.fno.spectral_layers
        from physicsnemo.utils import diffusion as samplers
        from physicsnemo import utils as helpers

        def build():
            import physicsnemo.models.diffusion as nets
            import physicsnemo.models.diffusion.unet
            first = layers.FCLayer(3, 4), {spectral}.SpectralConv2d, helpers.save_checkpoint
            second = nets.SongUNet, {unet}.UNet, samplers.stochastic_sampler

        layers = None
    """
    spectral, unet = "physicsnemo.models.fno.spectral_layers", "physicsnemo.models.diffusion.unet"
    assert after(before) == text(expected.format(spectral=spectral, unet=unet))


def test_a_module_whose_names_are_in_several_modules():
    before = """
        import physicsnemo.launch.utils.checkpoint as files
        import physicsnemo.core.version_check as versions
        import physicsnemo.nn.module.fno_layers

        files.save_checkpoint("run")
        encoder = physicsnemo.nn.module.fno_layers.FNO1DEncoder
    """
    expected = """
        import physicsnemo.utils.checkpoint as files
        import physicsnemo.core.version_check as versions
        import physicsnemo.models.fno

        files.save_checkpoint("run")
        encoder = physicsnemo.models.fno.FNO1DEncoder
    """
    assert after(before) == text(expected)
    assert remarks(before) == [(2, "physicsnemo.core.version_check")]


def test_other_code_stays_as_it_is():
    before = """
        from .physicsnemo.models.layers import FCLayer
        from physicsnemo_lab.launch.utils import save_checkpoint
        import numpy as np; import physicsnemo.models.module as module
        physicsnemo = np

        class Net (module.Module) :   # odd
            physicsnemo = "of the lab"
            def f(self): return self.physicsnemo.launch.utils
    """
    assert after(before) == text(before)
    assert not remarks(before)


def test_line_ends_and_the_coding_are_kept():
    before = "# coding: latin-1\r\nfrom modulus.models.layers import FCLayer  # Fl\xe4che".encode(
        "latin-1"
    )
    assert migrated(before).source == before.replace(b"modulus.models.layers", b"physicsnemo.nn")


def test_what_is_not_here_is_told():
    source = """
        from physicsnemo.nn import FCLayer, UpSample2D
        import physicsnemo
        from physicsnemo.models.layers import *
        from physicsnemo.datapipes.darcy import Darcy2D

        physicsnemo.Datapipe
        TARGET = "physicsnemo.launch.utils.save_checkpoint"
        logger = "physicsnemo.lab", f"{TARGET} physicsnemo.Datapipe", "nvidia-physicsnemo.txt"
    """
    assert [*migrated(text(source).encode()).remarks] == [
        (
            1,
            "physicsnemo.nn.UpSample2D",
            "one class for grids of any number of dimensions, with other arguments; use "
            "physicsnemo.models.window_layers.UpSample",
        ),
        (
            3,
            "physicsnemo.models.layers.*",
            "imports all names, left as it is; list those that are used",
        ),
        (4, "physicsnemo.datapipes.darcy.Darcy2D", "this project has nothing of that path"),
        (6, "physicsnemo.Datapipe", "data are read by what you like: models take tensors"),
        (
            7,
            "physicsnemo.launch.utils.save_checkpoint",
            "a text, left as it is; here it is physicsnemo.utils.save_checkpoint",
        ),
        (
            8,
            "physicsnemo.Datapipe",
            "a text, left as it is; data are read by what you like: models take tensors",
        ),
    ]
    assert after(source) == text(source)


def test_what_rank_0_does_alone_it_says():
    before = """
        import physicsnemo.launch.utils
        from physicsnemo.launch.utils import load_checkpoint, save_checkpoint as save

        load_checkpoint("run")
        if epoch % 2 == 0:
            if manager.rank == 0 and epoch:
                save("run")
                physicsnemo.launch.utils.save_checkpoint(
                    "run",
                    epoch=epoch,  # from 1
                )
            else:
                save("run")
        if rank == 0:
            save("run", rank=3), save(*arguments)
        if rank == 0 or epoch == 0:
            save("run")
    """
    expected = """
        import physicsnemo.utils
        from physicsnemo.utils import load_checkpoint, save_checkpoint as save

        load_checkpoint("run")
        if epoch % 2 == 0:
            if manager.rank == 0 and epoch:
                save("run", rank=0)
                physicsnemo.utils.save_checkpoint(
                    "run",
                    epoch=epoch,
                    rank=0,  # from 1
                )
            else:
                save("run")
        if rank == 0:
            save("run", rank=3), save(*arguments)
        if rank == 0 or epoch == 0:
            save("run")
    """
    assert after(before) == text(expected)


def test_texts():
    lines = "model:\n  _target_: modulus.models.layers.FCLayer\n  file: physicsnemo.log\n"
    assert [*mentions(lines)] == [
        (
            2,
            "modulus.models.layers.FCLayer",
            "a text, left as it is; here it is physicsnemo.nn.FCLayer",
        )
    ]


SCRIPT = """\
import torch
from physicsnemo.launch.utils import save_checkpoint
from physicsnemo.launch.utils import initialize_mlflow
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "lab/train.py": SCRIPT,
        "lab/other.py": "import physicsnemo\n",
        "lab/broken.py": "print 'modulus'\n",
        "lab/foreign.py": "print 'of Python 2'\n",
        "lab/conf/model.yaml": "_target_: modulus.Module\n",
        "lab/.hidden/train.py": SCRIPT,
        "lab/env/pyvenv.cfg": "",
        "lab/env/train.py": SCRIPT,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path / "lab"


DIFF = """\
--- lab/train.py
+++ lab/train.py
@@ -1,3 +1,3 @@
 import torch
-from physicsnemo.launch.utils import save_checkpoint
+from physicsnemo.utils import save_checkpoint
 from physicsnemo.launch.utils import initialize_mlflow
"""
TOLD = """\
lab/train.py:3: physicsnemo.launch.utils.initialize_mlflow: this project has nothing of that path
lab/conf/model.yaml:1: modulus.Module: a text, left as it is; here it is physicsnemo.Module
1 of 4 files {}; places left to you: 3
what they import is in physicsnemo-core
"""


def test_a_folder(tree, physicsnemo):
    result = physicsnemo("migrate", "lab")
    assert (result.exit_code, result.stdout) == (1, DIFF)
    broken, *others = result.stderr.splitlines(keepends=True)
    assert broken.startswith("Warning: lab/broken.py is left as it is: Syntax Error @ 1:1.")
    assert "".join(others) == TOLD.format("would change")
    assert (tree / "train.py").read_text() == SCRIPT


def test_writing(tree, physicsnemo):
    (tree / "train.py").chmod(0o750)
    result = physicsnemo("migrate", "lab", "--write")
    assert result.stdout == DIFF
    assert result.stderr.endswith(TOLD.format("changed"))
    expected = SCRIPT.replace("launch.utils import save", "utils import save")
    assert (tree / "train.py").read_text() == expected
    assert (tree / "train.py").stat().st_mode & 0o777 == 0o750
    for kept in (".hidden", "env"):
        assert (tree / kept / "train.py").read_text() == SCRIPT
    assert physicsnemo("migrate", "lab", "--write").stdout == ""


def test_nothing_to_say(tree, physicsnemo):
    result = physicsnemo("migrate", "lab/other.py")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("0 of 1 files would change; places left to you: 0\n")


def test_the_extra_is_named_where_it_is_missing(tmp_path):
    code = (
        "import sys\nsys.modules['libcst'] = None\nfrom physicsnemo.cli import main\n"
        f"main(['migrate', {str(tmp_path)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    needed = "Error: this needs libcst; run pip install 'physicsnemo-core[migrate]'\n"
    assert done.stderr == needed
