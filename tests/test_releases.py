# SPDX-License-Identifier: Apache-2.0
"""Every registered model can be written for every release of the reference, and read back."""

import inspect

import pytest
import torch

from physicsnemo import Module
from physicsnemo.nn.numerics import ODDITIES, RELEASES, has_oddity
from tools.cases import all_cases

CASES = {case.model: case for case in reversed(all_cases())}
# That show the reference's numerics, where the others have sizes that it cannot compute.
CASES |= {case.model: case for case in all_cases() if case.id == "reference"}
WITH_NUMERICS = {
    name: case
    for name, case in CASES.items()
    if "numerics" in inspect.signature(case.model_class.__init__).parameters
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", sorted(WITH_NUMERICS))
def test_a_file_for_each_release_comes_back(name, release, tmp_path):
    case, numerics = WITH_NUMERICS[name], f"reference-{release}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = case.model_class(**{**case.arguments, "numerics": numerics})
    model.save(tmp_path / "model.mdlus", for_release=release)
    same = Module.from_checkpoint(tmp_path / "model.mdlus")
    assert type(same) is type(model)
    stated = same._args["__args__"]["numerics"]
    oddities = [has_oddity(numerics, oddity) for oddity in ODDITIES]
    assert [has_oddity(stated, oddity) for oddity in ODDITIES] == oddities
    state = model.state_dict()
    assert same.state_dict().keys() == state.keys()
    for key, tensor in same.state_dict().items():
        assert torch.equal(tensor, state[key])
