# SPDX-License-Identifier: Apache-2.0
"""What a Module adds to torch.nn.Module."""

import copy
import logging
import pickle
from dataclasses import dataclass

import pytest
import torch

import physicsnemo
from physicsnemo import ModelMetaData, Module
from physicsnemo.core.base import record_of
from physicsnemo.utils import StaticCaptureEvaluateNoGrad


@dataclass
class NamedMetaData(ModelMetaData):
    name: str = "Named"
    amp: bool = True


class Named(Module):
    def __init__(self, sizes, *, bias=True, **options):
        super().__init__(meta=NamedMetaData())
        sizes.append(1)  # a constructor that changes its argument
        self.layer = torch.nn.Linear(sizes[0], sizes[1], bias=bias)

    def forward(self, x):
        return self.layer(x)


def test_public_names_are_one_class():
    from physicsnemo.models import Module as from_models
    from physicsnemo.models.meta import ModelMetaData as from_meta
    from physicsnemo.models.module import Module as from_module

    assert physicsnemo.Module is from_models is from_module
    assert physicsnemo.ModelMetaData is from_meta


def test_version_is_that_of_the_distribution():
    assert physicsnemo.__version__.count(".") == 2


def test_arguments_are_recorded_as_given_with_defaults():
    assert Named([3, 2], extra=5)._args == {
        "__name__": "Named",
        "__module__": Named.__module__,
        "__args__": {"sizes": [3, 2], "bias": True, "extra": 5},
    }


def test_record_does_not_share_containers_with_the_caller():
    sizes = [3, 2]
    model = Named(sizes)
    sizes.clear()
    assert model._args["__args__"]["sizes"] == [3, 2]


@pytest.mark.parametrize("own", [None, "mine", {"a": 1}])
def test_subclasses_may_use_the_names_of_the_base_class(tmp_path, own):
    class Own(Module):
        def __init__(self, size):
            super().__init__()
            self.device = self.logger = self.meta = self._args = own

    model = Own(3)
    model.debug()
    model.save(tmp_path / "own.mdlus")
    for twin in (Module.from_checkpoint(tmp_path / "own.mdlus"), copy.deepcopy(model)):
        assert (twin.device, twin.logger, twin.meta, twin._args) == (own,) * 4
        assert record_of(twin)["__args__"] == {"size": 3}
    assert Named([3, 2]).device == torch.device("cpu")
    assert StaticCaptureEvaluateNoGrad(model=model, use_graphs=False, use_amp=False)


def test_a_module_may_take_the_place_of_the_metadata():
    class Own(Module):
        def __init__(self):
            super().__init__()
            self.meta = torch.nn.Linear(2, 2)

    assert set(Own().state_dict()) == {"device_buffer", "meta.weight", "meta.bias"}


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_models_can_be_scripted():
    model = Scriptable()
    x = torch.ones(1, 3)
    assert torch.equal(torch.jit.script(model)(x), model(x))


class Scriptable(Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_arguments_may_be_called_anything(tmp_path):
    class Any(Module):
        def __init__(this, first, /, *rest, cls, self=2, **others):  # noqa: N805
            super().__init__()
            this.seen = (first, rest, cls, self, others)

    model = Any(1, 5, cls=3, first=4, rest=6, args=7, kwargs=8)
    assert model.seen == (1, (5,), 3, 2, {"first": 4, "rest": 6, "args": 7, "kwargs": 8})
    model.save(tmp_path / "any.mdlus")
    assert Module.from_checkpoint(tmp_path / "any.mdlus").seen == model.seen


def test_wrong_arguments_are_reported_by_the_constructor():
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument"):
        Named()


def test_device_buffer_is_empty_and_in_the_state():
    model = Named([3, 2])
    assert model.state_dict()["device_buffer"].shape == (0,)
    assert model.device == torch.device("cpu")
    assert model.to("meta").device == torch.device("meta")


def test_num_parameters_counts_frozen_ones():
    model = Named([3, 2])
    model.layer.bias.requires_grad_(False)
    assert model.num_parameters() == 8


@pytest.mark.parametrize("change", ["absent", "foreign"])
def test_device_buffer_may_be_absent_or_foreign(change):
    model = Named([3, 2])
    state = model.state_dict()
    if change == "absent":
        del state["device_buffer"]
    else:
        state["layer.device_buffer"] = torch.empty(0)
    model.load_state_dict(state)


def test_other_keys_are_still_strict():
    with pytest.raises(RuntimeError, match=r"Missing key.*layer\.weight"):
        Named([3, 2]).load_state_dict({})


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_arguments_and_weights(duplicate):
    model = Named([3, 2])
    twin = duplicate(model)
    assert twin._args == model._args
    assert torch.equal(twin.layer.weight, model.layer.weight)
    assert twin.layer.weight is not model.layer.weight


def test_metadata_class_stands_for_its_instance():
    class ByClass(Module):
        def __init__(self):
            super().__init__(meta=NamedMetaData)

    assert ByClass().meta == NamedMetaData()


@pytest.mark.parametrize(
    ("given", "amp", "cpu", "gpu"),
    [
        ({}, False, False, False),
        ({"amp": True}, True, True, True),
        ({"amp": True, "amp_cpu": False}, True, False, True),
        ({"amp_gpu": True}, False, False, True),
    ],
)
def test_device_flags_default_to_the_general_one(given, amp, cpu, gpu):
    meta = ModelMetaData(**given)
    assert (meta.amp, meta.amp_cpu, meta.amp_gpu) == (amp, cpu, gpu)


def test_onnx_flags_default_to_the_general_one():
    meta = ModelMetaData(onnx=True, onnx_gpu=False)
    assert (meta.onnx_cpu, meta.onnx_gpu) == (True, False)


def test_models_add_no_logging_handlers():
    before = len(logging.getLogger("physicsnemo.module").handlers)
    for _ in range(3):
        Named([3, 2])
    assert len(logging.getLogger("physicsnemo.module").handlers) == before


def test_debug_shows_messages_of_the_class_once(capfd):
    model = Named([3, 2])
    model.debug()
    model.debug()
    Named([3, 2])  # another instance changes nothing
    model.logger.debug("hello")
    assert capfd.readouterr().err.count("DEBUG - Named] hello") == 1


def test_instantiate_rebuilds_from_a_record():
    twin = Module.instantiate(Named([3, 2], bias=False)._args)
    assert isinstance(twin, Named)
    assert twin.layer.bias is None


def test_variadic_and_positional_only_arguments_are_rebuilt():
    class Variadic(Module):
        def __init__(self, first, /, second, *rest, key=None, **options):
            super().__init__()
            self.seen = (first, second, rest, key, options)

    model = Variadic(1, 2, 3, 4, key=5, other=6)
    assert Module.instantiate(model._args).seen == (1, 2, (3, 4), 5, {"other": 6})
    assert Module.instantiate(Variadic(1, second=2)._args).seen == (1, 2, (), None, {})
