# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of nvidia-physicsnemo give the outputs and gradients that they gave there."""

from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from physicsnemo import Module
from physicsnemo.core.format.container import open_checkpoint
from physicsnemo.testing import check_reference_case

dlwp = import_module("physicsnemo.models.dlwp.dlwp")
unet = import_module("physicsnemo.models.dlwp_healpix.HEALPixUNet")
recurrent = import_module("physicsnemo.models.dlwp_healpix.HEALPixRecUNet")

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize(
    "name", ["DLWP__depth2", "HEALPixUNet__two_steps", "HEALPixRecUNet__recurrent"]
)
def test_outputs_and_gradients(name):
    check_reference_case(REFERENCE / name)


@pytest.mark.parametrize(
    "name", ["DLWP__depth2", "HEALPixUNet__two_steps", "HEALPixRecUNet__recurrent"]
)
def test_optimizers_find_weights_in_the_order_of_files(name):
    path = REFERENCE / name / "reference.mdlus"
    with open_checkpoint(path) as checkpoint:
        theirs = checkpoint.state_dict()
    weights = [key for key, _ in Module.from_checkpoint(path).named_parameters()]
    assert weights == [key for key in theirs if key in weights]


def test_what_a_file_without_numerics_means(tmp_path):
    model = Module.from_checkpoint(REFERENCE / "DLWP__depth2" / "reference.mdlus")
    assert model._args["__args__"]["numerics"] == "reference-1.2"
    model.save(tmp_path / "again.mdlus")
    check = Module.from_checkpoint(tmp_path / "again.mdlus")
    assert check._args["__args__"]["numerics"] == "reference-1.2"


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        (dlwp.MetaData(), "DLWP"),
        (recurrent.MetaData(), "DLWP_HEALPixRec"),
        (unet.MetaData(), "DLWP_HEALPixUNet"),
    ],
)
def test_flags_are_those_of_the_reference(meta, name):
    flags = {flag for flag, value in asdict(meta).items() if value is True}
    assert flags == {"cuda_graphs", "amp_cpu", "amp_gpu"}
    assert (meta.name, meta.var_dim) == (name, 1)
