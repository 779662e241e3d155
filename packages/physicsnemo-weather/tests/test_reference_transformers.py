# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of nvidia-physicsnemo give the outputs and gradients that they gave there."""

from pathlib import Path

import pytest

from physicsnemo.testing import check_reference_case

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize("name", ["Pangu__square", "Fengwu__square", "SwinRNN__square"])
def test_outputs_and_gradients(name):
    check_reference_case(REFERENCE / name)
