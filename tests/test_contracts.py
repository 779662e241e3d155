# SPDX-License-Identifier: Apache-2.0
"""What only the whole workspace can say of the registered models."""

import inspect
import sys

import pytest

from physicsnemo import Module, inspect_checkpoint
from physicsnemo.core.install.provenance import recorded_as
from physicsnemo.registry import ModelRegistry
from tools.cases import all_cases
from tools.workspace import packages

FIRST_CASES = list({case.model: case for case in reversed(all_cases())}.values())


def test_every_model_has_a_case():
    assert {case.model for case in all_cases()} == set(ModelRegistry().list_models())


@pytest.mark.parametrize("name", ModelRegistry().list_models())
def test_name_is_that_of_the_class(name):
    assert ModelRegistry().factory(name).__name__ == name


# Under which module files record each model; promises to files that exist.
RECORDED = {
    "physicsnemo.models.afno.afno": ["AFNO"],
    "physicsnemo.models.afno.modafno": ["ModAFNO"],
    "physicsnemo.models.diffusion.dhariwal_unet": ["DhariwalUNet"],
    "physicsnemo.models.diffusion.preconditioning": [
        "EDMPrecond",
        "EDMPrecondSR",
        "EDMPrecondSuperResolution",
        "VEPrecond",
        "VEPrecond_dfsr",
        "VEPrecond_dfsr_cond",
        "VPPrecond",
        "iDDPMPrecond",
        "tEDMPrecondSuperRes",
    ],
    "physicsnemo.models.diffusion.song_unet": ["SongUNet", "SongUNetPosEmbd", "SongUNetPosLtEmbd"],
    "physicsnemo.models.diffusion.unet": ["StormCastUNet", "UNet"],
    "physicsnemo.models.dlwp.dlwp": ["DLWP"],
    "physicsnemo.models.dlwp_healpix.HEALPixRecUNet": ["HEALPixRecUNet"],
    "physicsnemo.models.dlwp_healpix.HEALPixUNet": ["HEALPixUNet"],
    "physicsnemo.models.fengwu.fengwu": ["Fengwu"],
    "physicsnemo.models.fno.fno": ["FNO"],
    "physicsnemo.models.graphcast.graph_cast_net": ["GraphCastNet"],
    "physicsnemo.models.mesh_reduced.mesh_reduced": ["Mesh_Reduced"],
    "physicsnemo.models.mesh_reduced.temporal_model": ["Sequence_Model"],
    "physicsnemo.models.meshgraphnet.bsms_mgn": ["BiStrideMeshGraphNet"],
    "physicsnemo.models.meshgraphnet.meshgraphnet": ["MeshGraphNet"],
    "physicsnemo.models.mlp.fully_connected": ["FullyConnected"],
    "physicsnemo.models.pangu.pangu": ["Pangu"],
    "physicsnemo.models.pix2pix.pix2pix": ["Pix2Pix"],
    "physicsnemo.models.rnn.rnn_one2many": ["One2ManyRNN"],
    "physicsnemo.models.rnn.rnn_seq2seq": ["Seq2SeqRNN"],
    "physicsnemo.models.sfno.sfno": ["SFNO"],
    "physicsnemo.models.srrn.super_res_net": ["SRResNet"],
    "physicsnemo.models.swinvrnn.swinvrnn": ["SwinRNN"],
}


def test_files_record_every_model_where_they_did():
    paths = {name: module for module, names in RECORDED.items() for name in names}
    found = {name: recorded_as(ModelRegistry().factory(name)) for name in paths}
    assert found == {name: (module, name) for name, module in paths.items()}
    assert paths.keys() == set(ModelRegistry().list_models())


@pytest.mark.parametrize("case", FIRST_CASES, ids=str)
def test_classes_give_their_source_and_files_their_path(case, tmp_path):
    model_class = case.model_class
    assert f"class {model_class.__name__}(" in inspect.getsource(model_class)
    defined_in = inspect.getsourcefile(model_class)
    assert defined_in == sys.modules[model_class.__module__].__file__
    assert getattr(sys.modules[model_class.__module__], model_class.__name__) is model_class
    model_class(**case.arguments).save(tmp_path / "model.mdlus")
    found = inspect_checkpoint(tmp_path / "model.mdlus").model
    assert found.name in RECORDED[found.module]
    assert type(Module.from_checkpoint(tmp_path / "model.mdlus")) is model_class


def test_ids_of_cases_are_unique():
    names = [str(case) for case in all_cases()]
    assert len(names) == len(set(names))


def test_every_package_with_cases_runs_the_conformance_kit():
    folders = [package.folder / "tests" for package in packages().values()]
    tested = [folder for folder in folders if (folder / "cases.py").exists()]
    assert tested
    for folder in tested:
        text = (folder / "test_conformance.py").read_text(encoding="utf-8")
        assert "test_conformance = conformance_test(CASES" in text, folder
