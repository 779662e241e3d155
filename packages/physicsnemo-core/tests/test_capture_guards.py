# SPDX-License-Identifier: Apache-2.0
"""Guards: what a captured step reads besides its arguments is seen when it changes."""

import functools
import gc
import types
import weakref
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from physicsnemo import Module
from physicsnemo.core.capture.guards import Guards
from physicsnemo.core.capture.identity import equal, equals_itself_alone, same
from physicsnemo.core.capture.summaries import leaf_metadata

WEIGHT = 1.0
SETTINGS = {"weight": 1.0, "nested": [1.0, (2.0,)]}


@dataclass(slots=True)
class Slotted:
    weight: float = 1.0


class WithDefault:
    weight = 1.0


class Loss:
    def __init__(self):
        self.weight, self.unread = 1.0, 1.0

    def __call__(self, x):
        return self._scaled(x)

    def _scaled(self, x):
        return self.weight * x

    def unused(self):
        return self.unread


class Property(Loss):
    @property
    def value(self):
        return self.weight

    @functools.cached_property
    def cached(self):
        return 1.0

    @staticmethod
    def shift(x):
        return x + WEIGHT


def make():
    return Module.from_torch(torch.nn.Linear)(2, 2)


def helper(x):
    return SETTINGS["weight"] * x


def closure_cases():
    """Yield pairs of a function and something that changes what it computes."""
    weight = 1.0

    def read_closure(x):
        return weight * x

    def change_closure():
        nonlocal weight
        weight = 2.0

    yield "closure", read_closure, change_closure

    yield "type of a number", read_other_closure(cell := [1]), lambda: cell.__setitem__(0, 1.0)

    def read_helper(x):
        return read_closure(x)

    def change_again():
        nonlocal weight
        weight = 3.0

    yield "closure of a helper", read_helper, change_again
    yield "lambda in a list", lambda x, f=[read_closure]: f[0](x), lambda: change_closure()


def read_other_closure(cell):
    return lambda x: cell[0] * x


def scaled(weight):
    return lambda x: weight[0] * x


def two_of_one_name():
    first, second = [1.0], [1.0]
    one, two = scaled(first), scaled(second)
    return lambda x: one(x) + two(x), lambda: second.__setitem__(0, 2.0)


def object_case(owner, use, change):
    return lambda x: use(owner, x), lambda: change(owner)


def set_weight(owner):
    owner.weight += 1.0


TENSOR = torch.ones(2)
Named = namedtuple("Named", "weight")


def cases():
    yield from (pytest.param(f, change, id=name) for name, f, change in closure_cases())
    yield pytest.param(*two_of_one_name(), id="two closures of one name")
    for owner in (types.SimpleNamespace(weight=1.0), Slotted(), WithDefault(), WithDefault):
        case = object_case(owner, lambda o, x: o.weight * x, set_weight)
        yield pytest.param(*case, id=f"attribute of {owner}"[:40])
    for owner in (Loss(), Property()):
        yield pytest.param(*object_case(owner, lambda o, x: o(x), set_weight), id="call")
        yield pytest.param(owner, lambda o=owner: set_weight(o), id="callable object")
        yield pytest.param(owner._scaled, lambda o=owner: set_weight(o), id="method")
    owner = Property()
    case = object_case(owner, lambda o, x: o.value * x, set_weight)
    yield pytest.param(*case, id="property")
    outer = types.SimpleNamespace(a=types.SimpleNamespace(b=types.SimpleNamespace(c=Loss())))
    case = object_case(outer, lambda o, x: o.a.b.c.weight * x, lambda o: set_weight(o.a.b.c))
    yield pytest.param(*case, id="attribute of attributes")
    settings = {"weight": 1.0, "nested": [1.0, (2.0,)]}
    case = object_case(settings, lambda o, x: o["weight"] * x, lambda o: o.update(weight=2.0))
    yield pytest.param(*case, id="item")
    case = object_case(settings, lambda o, x: o["nested"][0] * x, lambda o: o["nested"].append(1))
    yield pytest.param(*case, id="item of an item")
    numbers = [1.0]
    bound = functools.partial(lambda x, numbers, factor: numbers[0] * x, numbers=numbers, factor=2)
    yield pytest.param(bound, lambda: numbers.append(2.0), id="partial")
    default = types.SimpleNamespace(weight=1.0)
    yield pytest.param(
        lambda x, *, o=default: o.weight * x, lambda: set_weight(default), id="default"
    )
    losses = {"a": [Loss()]}
    case = object_case(losses, lambda o, x: o["a"][0](x), lambda o: set_weight(o["a"][0]))
    yield pytest.param(*case, id="object in a container")
    holder = types.SimpleNamespace(tensor=torch.ones(2))
    case = object_case(
        holder, lambda o, x: o.tensor * x, lambda o: setattr(o, "tensor", torch.ones(2))
    )
    yield pytest.param(*case, id="other tensor")
    scalar = types.SimpleNamespace(tensor=torch.ones(()))
    case = object_case(scalar, lambda o, x: o.tensor * x, lambda o: o.tensor.fill_(2.0))
    yield pytest.param(*case, id="tensor on the host")
    sparse = types.SimpleNamespace(tensor=torch.eye(2).to_sparse())
    case = object_case(
        sparse, lambda o, x: o.tensor @ x, lambda o: setattr(o, "tensor", torch.eye(2).to_sparse())
    )
    yield pytest.param(*case, id="sparse tensor")
    number = types.SimpleNamespace(weight=np.float32(1))
    case = object_case(
        number, lambda o, x: o.weight * x, lambda o: setattr(o, "weight", np.float32(2))
    )
    yield pytest.param(*case, id="number of NumPy")
    yield from (pytest.param(*object_case(*case), id=name) for name, case in containers())
    late = types.SimpleNamespace(weight=1.0)
    case = object_case(late, lambda o, x: getattr(o, "w", 1) * o.weight * x, set_weight)
    yield pytest.param(*case, id="beside an attribute that is missing")


@dataclass
class Plain:
    weight: float = 1.0


def containers():
    """Yield names, and containers with their use and a change of what lies deep in them."""
    for kind in (Plain, Slotted):
        yield f"{kind.__name__} in a list", ([kind()], lambda o, x: o[0].weight * x, set_first)
        yield f"{kind.__name__} in a tuple", ((kind(),), lambda o, x: o[0].weight * x, set_first)
    named = Named([1.0])
    yield (
        "list in a named tuple",
        (named, lambda o, x: o.weight[0] * x, lambda o: o.weight.append(2)),
    )
    tensors = [torch.ones(2)]
    yield "tensor in a list", (tensors, lambda o, x: o[0] * x, lambda o: o[0].fill_(2.0))
    yield "key", ({"a": 1.0}, lambda o, x: next(iter(o)) * x, lambda o: o.update(b=o.pop("a")))
    yield (
        "item that moves to the next list",
        ([[1.0, 2.0], [3.0]], lambda o, x: o[1][0] * x, lambda o: o[1].insert(0, o[0].pop())),
    )
    yield (
        "beside itself",
        ([shared := [1.0], shared], lambda o, x: o[1][0] * x, lambda o: o[0].append(2.0)),
    )


def set_first(owner):
    owner[0].weight += 1.0


@pytest.mark.parametrize(("function", "change"), list(cases()))
def test_a_change_is_seen(function, change):
    guards = Guards(function, make())
    before = guards.state()
    assert guards.state() is before
    change()
    after = guards.state()
    assert not before.matches(after)
    assert "the step reads" in before.difference(after)
    guards.rescan()
    assert guards.state() is guards.state()


@pytest.mark.parametrize("name", ["WEIGHT", "SETTINGS"])
def test_a_global_is_seen(name, monkeypatch):
    guards = Guards(lambda x: WEIGHT * helper(x), make())
    before = guards.state()
    monkeypatch.setitem(globals(), name, {"weight": 2.0} if name == "SETTINGS" else 2.0)
    after = guards.state()
    assert f"{name!r}, which the step reads" in before.difference(after)


def test_names_of_attributes_are_not_globals(monkeypatch):
    """A loop that assigns the loss to a global ``loss`` does not disturb ``result.loss``."""
    monkeypatch.setitem(globals(), "loss", 1.0)
    guards = Guards(lambda x: x.loss, make())
    before = guards.state()
    monkeypatch.setitem(globals(), "loss", 2.0)
    assert before.matches(guards.state())


def test_what_no_code_reads_does_not_matter():
    loss = Loss()
    guards = Guards(lambda x: loss(x), make())
    before = guards.state()
    loss.unread, loss.new = 2.0, 3.0
    assert before.matches(guards.state())


def test_large_containers_are_data():
    data = [0.0] * 5000
    guards = Guards(lambda n: data[n], make())
    before = guards.state()
    data[0] = 1.0
    assert before.matches(guards.state())
    data = [0.0] * 5000
    assert not before.matches(guards.state())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_mode_of_pytorch_is_seen(mode):
    guards = Guards(make(), make())
    before = guards.state()
    with mode():
        after = guards.state()
    assert "a global setting of PyTorch" in before.difference(after)
    assert not before.matches(after)


def test_parameters_without_a_shape_are_watched():
    model = Module.from_torch(torch.nn.LazyLinear)(2)
    guards = Guards(model, model)
    before = guards.state()
    assert before.matches(guards.state())
    model(torch.ones(3, 4))
    assert not before.matches(guards.state())


def test_tensors_are_found():
    model, other, shift = make(), torch.nn.Linear(2, 2), torch.ones(2)
    guards = Guards(lambda x: other(model(x)) + shift, model)
    found = set(map(id, guards.tensors()))
    expected = [*model.parameters(), *model.buffers(), *other.parameters(), shift]
    assert found >= set(map(id, expected))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (1.0, 2.0),
        ("a", "b"),
        (torch.float32, torch.float64),
        (torch.ones(2), torch.ones(3)),
        (torch.ones(2, 2), torch.ones(2, 2).T[:, :1].expand(2, 2)),
        (torch.ones(2), torch.ones(2).double()),
        (torch.ones(2), torch.ones(2, requires_grad=True)),
        (torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.complex64).conj()),
        (lambda: None, lambda: None),
    ],
)
def test_leaves_that_are_recorded_differently(one, other):
    assert leaf_metadata(one) != leaf_metadata(other)
    assert leaf_metadata(one) == leaf_metadata(one)


def test_values_of_tensors_do_not_matter():
    assert leaf_metadata(torch.zeros(2)) == leaf_metadata(torch.ones(2))


def test_a_described_object_is_kept_alive():
    """Else another one may get its identity."""

    def function():
        pass

    alive = weakref.ref(function)
    description = leaf_metadata(function)
    del function
    gc.collect()
    assert alive() is not None
    del description
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    "hold",
    [
        lambda tensor: tensor,
        lambda tensor: [1.0, tensor],
        lambda tensor: {"a": [[tensor], 1.0]},
        lambda tensor: (Plain(tensor),),
    ],
)
def test_a_tensor_is_not_kept_alive(hold):
    """Else the next one could not lie where it lay, and no recording would serve again."""
    held = hold(tensor := torch.ones(2))
    guards = Guards(lambda x: held, make())
    state = guards.state()
    assert guards.state() is state
    alive = weakref.ref(tensor)
    held = hold(tensor := torch.zeros(3))
    gc.collect()
    assert alive() is None
    assert not state.matches(guards.state())


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2),
        lambda: torch.ones(()),
        lambda: torch.nn.Parameter(torch.ones(1)),
        lambda: torch.ones(0),
        lambda: torch.nn.Linear(1, 1),
        lambda: [1.0],
        lambda: Slotted(),
    ],
)
@pytest.mark.parametrize("other", [None, torch.ones(2), torch.ones(()), 1.0, object()])
def test_objects_are_told_apart_although_they_are_equal(make, other):
    value, twin = make(), make()
    compare = equal if equals_itself_alone(value) else same
    assert compare([None, value], [None, value])
    assert not compare([None, value], [None, twin])
    assert not compare([None, value], [None, other])
    assert not compare([None, value], [other, value]) or other is None
    assert not compare([None, value], [None])
    assert not compare([None, value], [None, value, value])
    assert equal({"a": value}, {"a": value})
    assert not equal({"a": value}, {"b": value})


@pytest.mark.parametrize("kind", [torch.nn.Parameter, torch.Tensor])
def test_tensors_are_compared_without_reading_them(kind):
    """One on a device without memory has no values to read."""
    value, twin = (kind(torch.ones((), device="meta")) for _ in range(2))
    assert equal([value], [value])
    assert not equal([value], [twin])
    assert not equal([value], [1.0])
    assert not equal([1.0], [value])


def test_equality_of_other_objects_is_their_own():
    class Rounded:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            if other.value is None:
                raise KeyError("nothing to compare with")
            return self.value.round().tolist() == other.value.round().tolist()

    one, other = Rounded(torch.tensor([1.1, 2.0])), Rounded(torch.tensor([1.2, 2.0]))
    assert equal([one], [other])
    assert not equal([one], [Rounded(torch.ones(2))])
    assert not equal([one], [Rounded(None)])


def test_a_number_of_the_model_that_is_exchanged_is_seen():
    """One of the same value, and where the old one lay: only its identity is another."""
    model = make()
    model.inner_model.scale = torch.nn.Parameter(torch.ones(()))
    guards = Guards(model, model)
    before = guards.state()
    assert before.matches(guards.state())
    model.inner_model.scale = torch.nn.Parameter(model.inner_model.scale.data)
    assert not before.matches(guards.state())
