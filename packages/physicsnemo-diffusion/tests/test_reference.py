# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of nvidia-physicsnemo give the outputs and gradients that they gave there."""

from pathlib import Path

import pytest

from physicsnemo.testing import check_reference_case

FOLDERS = sorted((Path(__file__).parent / "reference").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_outputs_and_gradients(folder):
    check_reference_case(folder)
