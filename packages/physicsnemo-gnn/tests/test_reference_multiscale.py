# SPDX-License-Identifier: Apache-2.0
"""Models with weights of nvidia-physicsnemo give the outputs and gradients that they gave there."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from physicsnemo.models.gnn_layers import Graph
from physicsnemo.registry import ModelRegistry
from physicsnemo.testing import check_reference_case

REFERENCE = Path(__file__).parent / "reference"


def graph(spec, inputs):
    ends = [inputs[f"{spec['name']}.{end}"] for end in ("src", "dst")]
    data = {name: inputs[f"{spec['name']}.ndata.{name}"] for name in spec.get("ndata", ())}
    return Graph(torch.stack(ends), spec["num_nodes"], **data)


def test_checkpoint():
    check_reference_case(REFERENCE / "BiStrideMeshGraphNet__two_levels", {"graph": graph})


@pytest.mark.parametrize("name", ["Mesh_Reduced__encode", "Sequence_Model__context"])
def test_weights_where_there_are_no_checkpoints(name, tmp_path):
    folder = shutil.copytree(REFERENCE / name, tmp_path / name)
    case = json.loads((folder / "case.json").read_text())
    model = ModelRegistry().factory(case["class"])(**case["init"])
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    model.save(folder / "reference.mdlus")
    check_reference_case(folder, {"graph": graph})
