# SPDX-License-Identifier: Apache-2.0
"""The check of bad inputs finds what is computed, ignored, or fails inside of PyTorch."""

import pytest
import torch

from physicsnemo import Module
from physicsnemo.nn.checks import check_input
from physicsnemo.testing import Case, check_bad_inputs


class Careful(Module):
    """Half of a field."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        check_input(x, {"batch": None, "channels": 2, "points": None}, self.weight)
        return 0.5 * self.weight * x


class Careless(Careful):
    """Half of a field, whatever it is."""

    def forward(self, x):
        return 0.5 * self.weight * x


class Halfhearted(Careful):
    """The first point of a field."""

    def forward(self, x):
        return super().forward(x)[:, :, :1]


class Deep(Careful):
    """Says things in its own words, but for what PyTorch says."""

    def forward(self, x):
        if x is None:
            raise ValueError("expected a field, got None")
        return torch.nn.functional.linear(x, self.weight.expand(3, 3))


def case(model, **options):
    return Case("x", model, {}, lambda: (torch.ones(4, 2, 3),), **options)


def test_a_model_that_checks_its_input():
    check_bad_inputs(case(Careful))


def test_what_is_computed():
    with pytest.raises(AssertionError) as error:
        check_bad_inputs(case(Careless))
    for kind in ("integer", "complex", "bool", "float64", "more_axes", "channels_last", "scalar"):
        assert f"x:{kind} is computed with" in str(error.value)
    assert "x:none fails inside, by TypeError" in str(error.value)
    assert "surplus" not in str(error.value)


def test_what_is_ignored():
    with pytest.raises(AssertionError, match=r"x:surplus_2 is computed with$"):
        check_bad_inputs(case(Halfhearted))
    check_bad_inputs(case(Halfhearted, accepts={"*:surplus_2": "the first point is what counts"}))


def test_what_fails_inside():
    with pytest.raises(AssertionError, match=r"x:float64 fails inside, by RuntimeError") as error:
        check_bad_inputs(case(Deep))
    assert "x:none" not in str(error.value)
    assert "x:surplus_2 fails inside" in str(error.value)


def test_what_is_accepted_in_vain():
    with pytest.raises(AssertionError, match=r"accepts what is refused, or not tried: \['x:bool'"):
        check_bad_inputs(case(Careful, accepts={"x:bool": "it is not"}))
