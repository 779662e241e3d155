# SPDX-License-Identifier: Apache-2.0
"""Every registered model says what is wrong with an input that it cannot take."""

import pytest

from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import check_bad_inputs
from tools.cases import all_cases

READY = {
    *("AFNO", "FNO", "FullyConnected", "ModAFNO", "One2ManyRNN", "Pix2Pix", "SFNO", "SRResNet"),
    *("DLWP", "Fengwu", "HEALPixRecUNet", "HEALPixUNet", "Pangu", "Seq2SeqRNN", "SwinRNN"),
    *("DhariwalUNet", "EDMPrecond", "EDMPrecondSR", "EDMPrecondSuperResolution"),
    *("SongUNet", "SongUNetPosEmbd", "SongUNetPosLtEmbd", "StormCastUNet", "UNet", "VEPrecond"),
    *("VEPrecond_dfsr", "VEPrecond_dfsr_cond", "VPPrecond", "iDDPMPrecond", "tEDMPrecondSuperRes"),
}
CASES = [case for case in all_cases() if case.model in READY]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_inputs(case):
    check_bad_inputs(case)


def test_every_registered_model_is_tried():
    assert {case.model for case in CASES} == set(ModelRegistry().list_models()) & READY
