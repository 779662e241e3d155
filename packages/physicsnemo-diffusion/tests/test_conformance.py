# SPDX-License-Identifier: Apache-2.0
"""The networks have whatever is expected of models, and their metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

import pytest

from physicsnemo.models.diffusion import dhariwal_unet, song_unet
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

test_conformance = conformance_test(CASES)


@pytest.mark.parametrize(
    ("module", "name"), [(song_unet, "SongUNet"), (dhariwal_unet, "DhariwalUNet")]
)
def test_flags(module, name):
    meta = module.MetaData()
    flags = {"cuda_graphs", "amp_gpu", "bf16"}
    assert {flag for flag, value in asdict(meta).items() if value is True} == flags
    assert meta.name == name
