# SPDX-License-Identifier: Apache-2.0
"""Guards of modules: what changes in a module that a captured step uses is seen."""

import types

import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.capture.guards import Guards

FACTOR = 1.0


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1))
        self.factor, self.sizes, self.weights = 1.0, (1, (2, 3)), {"a": [1.0]}
        self.mask, self.norm = torch.ones(2), torch.nn.BatchNorm1d(2)
        self.config = types.SimpleNamespace(weight=1.0, other=1.0)
        self.activation = torch.tanh

    def forward(self, x):
        return self.config.weight * FACTOR * self.layers(x)


def make():
    return Module.from_torch(Net)()


CHANGES = {
    "mode": lambda m: m.eval(),
    "mode of a part": lambda m: m.layers[1].eval(),
    "number": lambda m: setattr(m, "factor", 2.0),
    "number of a part": lambda m: setattr(m.layers[1], "p", 0.5),
    "tuple": lambda m: setattr(m, "sizes", (1, (2, 4))),
    "item": lambda m: m.weights["a"].append(2.0),
    "tensor": lambda m: setattr(m, "mask", torch.ones(2)),
    "function": lambda m: setattr(m, "activation", torch.relu),
    "attribute of an attribute": lambda m: setattr(m.config, "weight", 2.0),
    "new attribute": lambda m: setattr(m, "new", 1.0),
    "no attribute": lambda m: delattr(m, "factor"),
    "module": lambda m: m.layers.__setitem__(0, torch.nn.Linear(2, 2)),
    "new module": lambda m: m.layers.append(torch.nn.ReLU()),
    "no module": lambda m: m.layers.pop(1),
    "parameter": lambda m: setattr(m.layers[0], "bias", torch.nn.Parameter(torch.zeros(2))),
    "frozen parameter": lambda m: m.layers[0].bias.requires_grad_(False),
    "moved parameter": lambda m: setattr(m.layers[0].bias, "data", torch.zeros(2)),
    "buffer": lambda m: m.norm.register_buffer("running_mean", torch.zeros(2)),
    "hook": lambda m: m.layers[1].register_forward_hook(lambda *_: None),
    "hook before": lambda m: m.layers[1].register_forward_pre_hook(lambda *_: None),
    "hook backward": lambda m: m.layers[1].register_full_backward_hook(lambda *_: None),
    "hook before backward": lambda m: m.layers[1].register_full_backward_pre_hook(lambda *_: None),
}


@pytest.mark.parametrize("where", ["model", "closure", "list"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_module_is_seen(change, where):
    model, others = make(), [make(), make()]
    other = others[0]
    functions = {"model": model, "closure": lambda x: other(x), "list": lambda x: others[1](x)}
    changed = {"model": model, "closure": other, "list": others[1]}[where].inner_model
    guards = Guards(functions[where], model)
    before = guards.state()
    assert guards.state() is before
    CHANGES[change](changed)
    after = guards.state()
    assert not before.matches(after)
    assert before.difference(after)
    guards.rescan()
    assert guards.state() is guards.state()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("mode of a part", "'model.inner_model.layers.1.training', which the step reads"),
        ("number", "'model.inner_model.factor', which"),
        ("number of a part", "'model.inner_model.layers.1.p', which"),
        ("item", "'model.inner_model.weights', which"),
        ("attribute of an attribute", "'model.inner_model.config.weight', which"),
        ("moved parameter", "parameters, buffers, submodules, hooks"),
    ],
)
def test_what_has_changed_is_named(change, named):
    model = make()
    guards = Guards(model, model)
    before = guards.state()
    CHANGES[change](model.inner_model)
    assert named in before.difference(guards.state())


def test_training_changes_nothing():
    model = make()
    optimizer = torch.optim.Adam(model.parameters())
    guards = Guards(model, model)
    before = guards.state()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(3, 2)).sum().backward()
        optimizer.step()
    assert guards.state() is before


def test_a_change_that_is_taken_back_leads_to_a_state_that_matches():
    model = make()
    guards = Guards(model, model)
    before = guards.state()
    model.eval()
    between = guards.state()
    model.train()
    assert not before.matches(between)
    assert before.matches(guards.state())


def test_wrappers_may_take_notes():
    class Wrapper(torch.nn.Module):
        __module__ = "torch.nn.parallel.of_a_test"

        def __init__(self, module):
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self, x):
            self.calls += 1
            return self.module(x)

    wrapper = Wrapper(make())
    guards = Guards(lambda x: wrapper(x), wrapper.module)
    before = guards.state()
    wrapper(torch.ones(3, 2))
    assert before.matches(guards.state())
    wrapper.module.inner_model.factor = 2.0
    assert not before.matches(guards.state())


def test_a_global_that_the_model_reads_is_seen(monkeypatch):
    model = make()
    guards = Guards(model, model)
    before = guards.state()
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert "'FACTOR', which the step reads" in before.difference(guards.state())


def test_tensors_of_modules_are_found():
    model = make()
    found = set(map(id, Guards(model, model).tensors()))
    assert found >= {*map(id, [*model.parameters(), *model.buffers(), model.inner_model.mask])}


class Wrapper(torch.nn.Module):
    """Has the mode of the module within, as what ``torch.compile`` returns in PyTorch 2.11."""

    def __init__(self, inner):
        super().__init__()
        del self.__dict__["training"]
        self.inner = inner

    @property
    def training(self):
        return self.inner.training

    @training.setter
    def training(self, mode):
        if "inner" in self.__dict__.get("_modules", {}):
            self.inner.training = mode
        else:
            self.__dict__["training"] = mode

    def forward(self, x):
        return self.inner(x)


def test_a_module_without_a_mode_of_its_own():
    net = make()
    wrapper = Wrapper(net)
    guards = Guards(lambda x: wrapper(x), net)
    before = guards.state()
    assert guards.state() is before
    net.eval()
    assert guards.state() is not before
