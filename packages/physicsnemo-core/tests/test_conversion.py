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


@pytest.mark.parametrize("given", [torch.nn.Linear(2, 2), torch.relu, "Linear", int])
def test_only_classes_of_modules_are_converted(given):
    with pytest.raises(
        TypeError, match=r"expected a subclass of torch\.nn\.Module to convert, got"
    ):
        Module.from_torch(given)


def test_attributes_of_the_inner_model_are_reached_through_the_wrapper():
    model = Module.from_torch(Plain)(2, 7)
    assert model.seen == ((7,), {})
    assert model.layer is model.inner_model.layer
    with pytest.raises(AttributeError, match="'Plain' object has no attribute 'absent'"):
        _ = model.absent
    assert not hasattr(model, "__prepare_scriptable__")
    assert [name for name, _ in model.named_modules()] == ["", "inner_model", "inner_model.layer"]


def test_constructor_arguments_may_be_called_anything(tmp_path):
    class Named(torch.nn.Module):
        def __init__(this, cls, self, meta, args=(), kwargs=None):  # noqa: N805
            super().__init__()
            this.seen = (cls, self, meta, args, kwargs)

    model = Module.from_torch(Named)(cls=1, self=2, meta=3, args=[4], kwargs={"a": 5})
    model.save(tmp_path / "named.mdlus")
    assert Module.from_checkpoint(tmp_path / "named.mdlus").seen == (1, 2, 3, [4], {"a": 5})


def test_a_name_of_its_own_is_part_of_the_class():
    first, second = (Module.from_torch(Plain, name=name) for name in ("First", "Second"))
    assert (first.__name__, second.__name__) == ("First", "Second")
    assert Module.from_torch(Plain, name="First") is first
    twin = pickle.loads(pickle.dumps(second(2)))
    assert type(twin) is second
