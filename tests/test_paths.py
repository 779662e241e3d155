# SPDX-License-Identifier: Apache-2.0
"""Paths of other releases lead to the same objects, or to an error that says why not."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from physicsnemo.core.install.aliases import absolute, current_name, renames
from physicsnemo.core.install.destinations import owner
from physicsnemo.core.install.paths import MODULES, TABLE, Row
from tools.path_table import PAGE, with_tables
from tools.workspace import packages

ROWS = [row for rows in TABLE.values() for row in rows]
OWNERS = {module: package.name for package in packages().values() for module in package.modules}


def paths(row: Row) -> list[str]:
    return [absolute(module) for module in (row.of_1 + " " + row.of_2).split()]


each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names.split()[0])


@each_row
def test_a_name_is_found_by_all_its_paths_or_the_error_says_why_not(row: Row):
    for former, present in renames(row):
        for module in paths(row):
            if row.here:
                place = import_module(absolute(row.here.split()[0]))
                scope: dict[str, object] = {}
                exec(f"from {module} import {former} as found", scope)
                assert scope["found"] is getattr(import_module(module), former)
                assert scope["found"] is getattr(place, present)
            else:
                with pytest.raises(ImportError, match=former) as told:
                    exec(f"from {module} import {former}")
                if not hasattr(import_module(module), "__path__"):
                    # Python drops the text of such a module, but not that of an attribute.
                    with pytest.raises(AttributeError) as told:
                        getattr(import_module(module), former)
                assert row.reason in str(told.value)


@each_row
def test_a_row_is_complete(row: Row):
    assert paths(row), "in no release"
    assert row.here or row.reason
    assert not (row.here and row.instead)
    for module in map(absolute, row.here.split()):
        assert OWNERS.get(module, "torch") == owner(module)
        for _, present in renames(row):
            assert hasattr(import_module(module), present)
    if row.instead:
        module, _, name = row.instead.partition(":")
        assert hasattr(import_module(module), name)


def test_a_path_has_one_row():
    seen = [
        (module, former) for row in ROWS for former, _ in renames(row) for module in {*paths(row)}
    ]
    assert len(seen) == len({*seen})


DIFFUSION_OF_2_2 = {
    "": "DiffusionModel Predictor Denoiser PredictorType",
    ".noise_schedulers": "NoiseScheduler LinearGaussianNoiseScheduler EDMNoiseScheduler "
    "EDMLogUniformNoiseScheduler VENoiseScheduler VPNoiseScheduler IDDPMNoiseScheduler "
    "StudentTEDMNoiseScheduler DomainParallelNoiseScheduler",
    ".preconditioners": "BaseAffinePreconditioner EDMPreconditioner VPPreconditioner "
    "VEPreconditioner IDDPMPreconditioner EDMPrecond EDMPrecondSR EDMPrecondSuperResolution "
    "VPPrecond VEPrecond iDDPMPrecond VEPrecond_dfsr VEPrecond_dfsr_cond",
    ".samplers": "sample Solver EulerSolver HeunSolver EDMStochasticEulerSolver "
    "EDMStochasticHeunSolver deterministic_sampler stochastic_sampler",
    ".guidance": "DPSGuidance DPSScorePredictor ModelConsistencyDPSGuidance "
    "DataConsistencyDPSGuidance",
    ".metrics": "MSEDSMLoss WeightedMSEDSMLoss EDMLoss EDMLossLogUniform VPLoss VELoss EDMLossSR "
    "RegressionLoss RegressionLossCE ResidualLoss VELoss_dfsr calculate_fid_from_inception_stats "
    "crps kcrps",
    ".multi_diffusion": "MultiDiffusionModel2D MultiDiffusionPredictor MultiDiffusionMSEDSMLoss "
    "MultiDiffusionWeightedMSEDSMLoss MultiDiffusionDPSGuidance MultiDiffusionDPSScorePredictor "
    "MultiDiffusionModelConsistencyDPSGuidance MultiDiffusionDataConsistencyDPSGuidance "
    "BasePatching2D RandomPatching2D GridPatching2D image_batching image_fuse",
    ".generate": "diffusion_step regression_step",
    ".utils": "ConcatConditionWrapper StackedRandomGenerator InfiniteSampler",
}


@pytest.mark.parametrize("module", DIFFUSION_OF_2_2)
def test_all_of_the_diffusion_framework_of_2_2_is_in_the_table(module: str):
    in_table = {
        former
        for row in ROWS
        if f".diffusion{module}" in row.of_2.split()
        for former, _ in renames(row)
    }
    assert {*DIFFUSION_OF_2_2[module].split()} <= in_table


@pytest.mark.parametrize("former", MODULES)
def test_a_module_that_moved_has_all_that_its_place_has(former: str):
    moved, place = import_module(absolute(former)), import_module(absolute(MODULES[former]))
    for name in getattr(place, "__all__", ()):
        assert getattr(moved, name) is getattr(place, name)


def test_submodules_move_with_their_package():
    from physicsnemo.models.diffusion.song_unet import SongUNet
    from physicsnemo.models.diffusion_unets.song_unet import SongUNet as Moved

    assert Moved is SongUNet
    assert find_spec("physicsnemo.models.diffusion_unets.nothing") is None


def test_all_of_a_former_module_can_be_imported():
    scope: dict[str, object] = {}
    exec("from physicsnemo.models.layers import *", scope)
    layers = import_module("physicsnemo.nn")
    assert {*layers.__all__} <= {*scope}
    assert {"AFNO2DLayer", "HEALPixAvgPool"} <= {*dir(layers)}


def test_files_and_imports_share_the_table():
    module, name = current_name("physicsnemo.nn.module.hpx.pooling", "HEALPixAvgPool")
    assert (module, name) == ("physicsnemo.models.dlwp_healpix_layers", "AvgPool")
    assert current_name("physicsnemo.models.lab.net", "Module") == (
        "physicsnemo.models.lab.net",
        "Module",
    )


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("from physicsnemo.nn import Stann", "did you mean Stan?"),
        ("from physicsnemo.models import fulyconnected", "did you mean FullyConnected?"),
        ("from physicsnemo.models.fno import AFNO", "; it is in physicsnemo.models.afno"),
        ("from physicsnemo.models.layers import FCLayers", "did you mean FCLayer?"),
    ],
)
def test_misspelt_names_are_offered_a_match(code: str, advice: str):
    with pytest.raises(ImportError, match="cannot import name") as raised:
        exec(code)
    assert advice in str(raised.value).replace("FullyConnected or ", "")


WITHOUT_FAMILIES = """
import sys
sys.path[:] = [path for path in sys.path if "/packages/" not in path or "-core" in path]
import physicsnemo, physicsnemo.models
import physicsnemo.models.diffusion_unets, physicsnemo.models.layers, physicsnemo.launch.utils
assert "torch" not in sys.modules
physicsnemo.registry.ModelRegistry().__clear_registry__()
assert not hasattr(physicsnemo.models, "FNO")
for code in sys.argv[1:]:
    try:
        exec(code)
    except (ImportError, AttributeError) as error:
        print(error)
"""


def test_a_missing_family_is_named():
    wanted = {
        "import physicsnemo.models.fno": "fno",
        "from physicsnemo.models import fno": "fno",
        "from physicsnemo.models import FNO": "fno",
        "physicsnemo.models.FNO": "fno",
        "from physicsnemo.models.diffusion_unets import SongUNet": "diffusion",
        "from physicsnemo.models.diffusion_unets.unet import UNet": "diffusion",
        "from physicsnemo.diffusion.preconditioners import EDMPrecond": "diffusion",
        "from physicsnemo.models.layers import FCLayer": "nn",
        "physicsnemo.models.layers.FCLayer": "nn",
        "from physicsnemo.nn import FCLayer": "nn",
    }
    command = [sys.executable, "-W", "error", "-c", WITHOUT_FAMILIES, *wanted]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(wanted)
    for text, family in zip(lines, wanted.values(), strict=True):
        assert text.endswith(
            f"is part of physicsnemo-{family}, run 'pip install physicsnemo-{family}'"
        )


def test_a_module_keeps_its_own_loader():
    nn = import_module("physicsnemo.nn")
    assert nn.__spec__.loader is nn.__loader__
    assert Path(nn.__loader__.get_filename()) == Path(nn.__file__)


@pytest.mark.parametrize("module", ["physicsnemo.models.diffusion_unets", "physicsnemo.models.fno"])
def test_who_looks_in_a_folder_learns_what_is_there(module: str, tmp_path: Path):
    # As pytest does, which would take an error, or another module, for what a test file is.
    for finder in sys.meta_path:
        assert finder.find_spec(module, [str(tmp_path)]) is None


def test_the_page_carries_the_current_tables():
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run python -m tools.path_table"
