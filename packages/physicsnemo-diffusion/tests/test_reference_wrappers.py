# SPDX-License-Identifier: Apache-2.0
"""Wrappers with weights of nvidia-physicsnemo give the outputs and gradients they gave there."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from physicsnemo.models.diffusion import VEPrecond_dfsr_cond
from physicsnemo.testing import check_reference_case

REFERENCE = Path(__file__).parent / "reference_wrappers"


@pytest.mark.filterwarnings("ignore:EDMPrecondSR:DeprecationWarning")
@pytest.mark.parametrize(
    "name", ["UNet__pos_embd", "EDMPrecondSR__scaled_condition", "tEDMPrecondSuperRes__nu10"]
)
def test_checkpoints(name):
    check_reference_case(REFERENCE / name)


def test_weights_where_there_is_no_checkpoint(tmp_path):
    folder = shutil.copytree(REFERENCE / "VEPrecond_dfsr_cond__song", tmp_path / "case")
    case = json.loads((folder / "case.json").read_text())
    net = VEPrecond_dfsr_cond(**case["init"], numerics="reference-1.2")
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    net.save(folder / "reference.mdlus")
    check_reference_case(folder)
