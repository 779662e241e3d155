# SPDX-License-Identifier: Apache-2.0
"""State dicts of other releases are read by this class's keys, or refused if they differ."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.errors import CheckpointError
from physicsnemo.core.releases import in_keys_of, in_own_keys, inferred_release
from physicsnemo.models.history import Argument, Constant, Renamed


class Layer(torch.nn.Module):
    """Was called otherwise from 1.3 on, and shows its scale since 2.0; its grid was kept before."""

    _state_history = (
        Renamed("first.", "layers.0.", since="1.3"),
        Constant("scale", since="2.0"),
        Constant("grid", until="1.3"),
    )

    def __init__(self, scale):
        super().__init__()
        self.first = torch.nn.Linear(2, 2)
        self.scale = scale
        self.register_buffer("grid", torch.arange(3.0))


class Net(Module):
    _argument_history = (Argument("backend", "pyg", since="1.3", ignored=("dgl",)),)
    _release_marks = {"1.3": r"layers\.0\."}

    def __init__(self, scale=0.5):
        super().__init__()
        self.layer = Layer(scale)

    def forward(self, x):
        return self.layer.scale * self.layer.first(x)


KEYS = {
    "1.2": {"device_buffer", "layer.first.weight", "layer.first.bias", "layer.grid"},
    "1.3": {"device_buffer", "layer.layers.0.weight", "layer.layers.0.bias"},
    "2.0": {"layer.layers.0.weight", "layer.layers.0.bias", "layer.scale"},
}


@pytest.mark.parametrize("release", KEYS)
def test_keys_of_every_release_both_ways(release):
    model = Net()
    state = in_keys_of(model, model.state_dict(), release)
    assert state.keys() == KEYS[release]
    back = in_own_keys(model, state, "a file")
    assert back.keys() | {"device_buffer"} == model.state_dict().keys()
    for key, tensor in back.items():
        assert torch.equal(tensor, model.state_dict()[key])
    assert in_own_keys(model, back, "a file").keys() == back.keys()


def test_a_constant_that_contradicts_the_arguments_is_refused():
    state = in_keys_of(Net(0.5), Net(0.5).state_dict(), "2.0")
    with pytest.raises(CheckpointError, match=r"layer\.scale in a file is 0\.5, .* make it 0\.25"):
        in_own_keys(Net(0.25), state, "a file")


def test_two_names_for_one_tensor_are_refused():
    state = Net().state_dict()
    state["layer.layers.0.bias"] = state["layer.first.bias"]
    with pytest.raises(CheckpointError, match=r"first\.bias by another name too, layer\.layers"):
        in_own_keys(Net(), state, "a file")


@pytest.mark.parametrize(
    ("keys", "is_zip", "release"),
    [
        (["device_buffer", "layer.first.weight"], False, "1.0"),
        (["device_buffer", "layer.layers.0.weight"], False, "1.3"),
        (["layer.layers.0.weight"], False, "2.0"),
        (["device_buffer", "layer.first.weight"], True, "2.0"),
    ],
)
def test_the_release_of_a_file_that_claims_none(keys, is_zip, release):
    state = dict.fromkeys(keys, torch.zeros(1))
    assert inferred_release(Net, state, is_zip) == release
