# SPDX-License-Identifier: Apache-2.0
"""Files hold examples of the models of every family, unless graphs are among their inputs."""

import dataclasses

import pytest
import torch

from physicsnemo.core.pytree import named_leaves
from physicsnemo.core.rebuild.verify import verify_checkpoint
from physicsnemo.models.gnn_layers import Graph
from tools.cases import all_cases

CASES = {case.model: case for case in reversed(all_cases())}


def takes_objects(case):
    """Tell whether inputs are more than tensors and what JSON holds."""
    plain = (torch.Tensor, int, float, str, type(None))
    given = case.inputs()
    given = list(given.values()) if isinstance(given, dict) else given
    leaves = [leaf for _, leaf in named_leaves(given, "")]
    is_graph = any(dataclasses.is_dataclass(it) for it in given)
    return is_graph or not all(isinstance(leaf, plain) for leaf in leaves)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_an_example_of_each_model(name, tmp_path):
    case, path = CASES[name], tmp_path / "model.mdlus"
    model = case.build()
    if takes_objects(case):
        with pytest.raises(TypeError, match=rf"the example for {name} cannot be saved: .* graphs"):
            model.save(path, example=case.inputs())
        assert not path.exists()
        return
    model.save(path, example=case.inputs())
    found = verify_checkpoint(path)[-1]
    assert (found.part, found.passed) == ("example", True), found.finding


def test_graphs_are_named(tmp_path):
    case = CASES["MeshGraphNet"]
    assert any(isinstance(it, Graph) for it in case.inputs())
    with pytest.raises(
        TypeError, match=r"'args'\[2\] is a physicsnemo\.models\.gnn_layers.*Graph;"
    ):
        case.build().save(tmp_path / "model.mdlus", example=case.inputs())
