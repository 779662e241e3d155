# SPDX-License-Identifier: Apache-2.0
"""The models have whatever is expected of models, and their metadata claims what it did."""

import runpy
from dataclasses import asdict
from pathlib import Path

from physicsnemo.models.meshgraphnet.meshgraphnet import MetaData
from physicsnemo.testing import conformance_test

CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]

test_conformance = conformance_test(CASES)


def test_flags():
    flags = {name for name, value in asdict(MetaData()).items() if value is True}
    assert flags == {"cuda_graphs", "amp_gpu", "func_torch", "auto_grad"}
    assert MetaData().name == "MeshGraphNet"
