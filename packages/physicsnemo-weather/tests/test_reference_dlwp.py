# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of nvidia-physicsnemo give the outputs and gradients that they gave there."""

from pathlib import Path

import pytest

from physicsnemo import Module
from physicsnemo.testing import check_reference_case

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize(
    "name", ["DLWP__depth2", "HEALPixUNet__two_steps", "HEALPixRecUNet__recurrent"]
)
def test_outputs_and_gradients(name):
    check_reference_case(REFERENCE / name)


def test_what_a_file_without_numerics_means(tmp_path):
    model = Module.from_checkpoint(REFERENCE / "DLWP__depth2" / "reference.mdlus")
    assert model._args["__args__"]["numerics"] == "reference-1.2"
    model.save(tmp_path / "again.mdlus")
    check = Module.from_checkpoint(tmp_path / "again.mdlus")
    assert check._args["__args__"]["numerics"] == "reference-1.2"
