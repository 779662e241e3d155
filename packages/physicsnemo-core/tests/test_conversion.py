# SPDX-License-Identifier: Apache-2.0
"""Models made of plain PyTorch classes."""

import copy
import inspect
import pickle

import pytest
import torch

from physicsnemo import ModelMetaData, Module


class Plain(torch.nn.Module):
    """Takes keyword-only and variadic arguments, and returns a dictionary."""

    def __init__(self, width, *more, bias=True, **options):
        super().__init__()
        self.layer = torch.nn.Linear(width, width, bias=bias)
        self.seen = (more, options)

    def forward(self, x, *, scale=1.0):
        return {"y": scale * self.layer(x)}


def test_aliases_and_names():
    model_class = Module.from_torch(Plain)
    assert Module.from_pytorch(Plain) is model_class
    assert model_class.__name__ == "PlainPhysicsNeMoModel"
    assert model_class.__module__ == "physicsnemo.models.module"
    assert set(model_class(2).state_dict()) == {
        "device_buffer",
        "inner_model.layer.weight",
        "inner_model.layer.bias",
    }


def test_signature_is_that_of_the_torch_class():
    converted = inspect.signature(Module.from_torch(Plain).__init__)
    assert converted == inspect.signature(Plain.__init__)


def test_forward_passes_everything_on():
    model = Module.from_torch(Plain)(2, 7, bias=False, extra=1)
    x = torch.ones(3, 2)
    assert torch.equal(model(x, scale=2.0)["y"], 2 * model.inner_model.layer(x))
    assert model.inner_model.seen == ((7,), {"extra": 1})


def test_round_trip(tmp_path):
    model = Module.from_torch(Plain)(2, 7, 8, bias=False, extra=1)
    model.save(tmp_path / "plain.mdlus")
    twin = Module.from_checkpoint(tmp_path / "plain.mdlus")
    assert twin.inner_model.seen == ((7, 8), {"extra": 1})
    assert torch.equal(twin.inner_model.layer.weight, model.inner_model.layer.weight)


def test_conversion_does_not_register_unless_asked(registry):
    model_class = Module.from_torch(Plain)
    assert "PlainPhysicsNeMoModel" not in registry.list_models()
    assert Module.from_torch(Plain, register=True) is model_class
    assert registry.factory("PlainPhysicsNeMoModel") is model_class


def test_metadata_is_part_of_the_class_and_copied_to_each_model():
    meta = ModelMetaData(name="Plain", amp=True)
    model_class = Module.from_torch(Plain, meta)
    assert model_class is Module.from_torch(Plain, ModelMetaData(name="Plain", amp=True))
    assert model_class is not Module.from_torch(Plain)
    first, second = model_class(2), model_class(2)
    first.meta.amp_gpu = False
    assert second.meta == meta


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(duplicate):
    model = Module.from_torch(Plain)(2)
    twin = duplicate(model)
    assert type(twin) is type(model)
    assert torch.equal(twin(torch.ones(1, 2))["y"], model(torch.ones(1, 2))["y"])


def test_compiles_without_graph_breaks():
    model = Module.from_torch(Plain)(2)
    compiled = torch.compile(model, fullgraph=True)
    x = torch.ones(3, 2)
    torch.testing.assert_close(compiled(x)["y"], model(x)["y"])
