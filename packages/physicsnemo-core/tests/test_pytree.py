# SPDX-License-Identifier: Apache-2.0
"""Pytrees: flattened, mapped, and their leaves named."""

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import torch

from physicsnemo.core.pytree import flatten, map_leaves, map_tensors, named_leaves

Pair = namedtuple("Pair", "x y")


class Typed(NamedTuple):
    x: object
    y: object = None


@dataclass
class Plain:
    x: object
    y: object = None


@dataclass(frozen=True, slots=True)
class Frozen:
    x: object
    y: object = field(default=None, kw_only=True)


@dataclass
class Prepared:
    x: object

    def __post_init__(self):
        self.scale = 3


class Items(list):
    pass


def with_attribute():
    items = Items([1])
    items.unit = "m"
    return items


NESTS = [
    *((), [], {}, None, (None,), [[]], 1, "text"),
    *(Pair(1, [2, (3,)]), Typed(1), Typed({"a": None}, 2), torch.Size([2, 3])),
    *(Plain(1, Plain(2)), Frozen([1], y=2), Prepared({"a": (1, 2)})),
    *(OrderedDict(b=1, a=[2]), {1: {"a": 1}, (2, 3): None}, Items([1, 2])),
]


@pytest.mark.parametrize("nest", NESTS, ids=repr)
def test_a_nest_is_taken_apart_and_put_together(nest):
    leaves = []
    structure = flatten(nest, leaves)
    hash(structure)
    assert [leaf for _, leaf in named_leaves(nest, "x")] == leaves
    supply = iter(range(10, 10 + len(leaves)))
    other = map_leaves(nest, lambda _: next(supply))
    again = []
    assert flatten(other, again) == structure
    assert again == list(range(10, 10 + len(leaves)))
    assert type(other) is (type(nest) if structure is not None else int)
    assert map_leaves(nest, lambda leaf: leaf) == nest


@pytest.mark.parametrize("nest", [nest for nest in NESTS if isinstance(nest, list | dict | Plain)])
def test_the_original_is_left_alone(nest):
    before = repr(nest)
    map_leaves(nest, lambda _: "other")
    assert repr(nest) == before


def test_structures_tell_nests_apart():
    structures = [flatten(nest, []) for nest in NESTS]
    leafless = [structure for structure in structures if structure is not None]
    assert len(set(leafless)) == len(leafless)


def test_a_default_dictionary_keeps_its_factory():
    other = map_leaves(defaultdict(list, a=1), lambda leaf: leaf + 1)
    assert other == {"a": 2}
    assert other["new"] == []


def test_a_field_that_a_dataclass_adds_to_itself_is_a_leaf():
    leaves = []
    flatten(Prepared(1), leaves)
    assert leaves == [1, 3]
    assert map_leaves(Prepared(1), lambda leaf: 2 * leaf).scale == 6


@pytest.mark.parametrize(
    "leaf", [with_attribute(), {1}, torch.nn.Linear(1, 1), Plain, iter([]), torch.zeros(2)]
)
def test_what_is_more_than_its_items_is_a_leaf(leaf):
    leaves = []
    assert flatten(leaf, leaves) is None
    assert leaves[0] is leaf
    assert map_leaves(leaf, lambda same: same) is leaf


def test_leaves_are_named_by_expressions():
    nest = {"a": [Pair(1, 2), Plain(3)], 4: (5,)}
    names = dict(named_leaves(nest, "nest"))
    assert list(names) == [
        *("nest['a'][0].x", "nest['a'][0].y", "nest['a'][1].x", "nest['a'][1].y", "nest[4][0]")
    ]
    for name, leaf in names.items():
        assert eval(name, {"nest": nest}) is leaf


def test_only_tensors_are_mapped():
    nest = (1, {"a": torch.ones(2)}, None)
    one, other, none = map_tensors(nest, lambda tensor: tensor + 1)
    assert (one, none, other["a"].tolist()) == (1, None, [2, 2])
