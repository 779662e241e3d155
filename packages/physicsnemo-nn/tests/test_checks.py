# SPDX-License-Identifier: Apache-2.0
"""What a model says of inputs that it cannot take."""

import pytest
import torch

from physicsnemo.nn.checks import check_at_least, check_grid, check_input, field_layout

FIELD = {"batch": None, "in_channels": 3, "n1": None, "n2": None}
POINTS = {"...": None, "in_features": 3}
WEIGHT = torch.zeros(1)


@pytest.mark.parametrize(
    ("shape", "layout"), [((2, 3, 8, 9), FIELD), ((3,), POINTS), ((4, 5, 6, 3), POINTS)]
)
def test_good_shapes_pass(shape, layout):
    check_input(torch.zeros(shape), layout, WEIGHT)


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((2, 4, 8, 9), FIELD, r"\(batch, in_channels=3, n1, n2\), got .*, where in_channels is 4"),
        ((2, 3, 8), FIELD, r"got \(2, 3, 8\), which has 3 dimensions"),
        ((2, 3, 8, 9, 1), FIELD, "which has 5 dimensions"),
        ((2, 4), POINTS, r"\(\.\.\., in_features=3\), got \(2, 4\), where in_features is 4"),
        ((), POINTS, r"got \(\), which has 0 dimensions"),
    ],
)
def test_wrong_shapes(shape, layout, message):
    with pytest.raises(ValueError, match=message):
        check_input(torch.zeros(shape), layout, WEIGHT)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_wrong_type(dtype):
    with pytest.raises(TypeError, match=f"floating-point numbers, got {dtype}.*x.to"):
        check_input(torch.zeros(2, 3, dtype=dtype), POINTS, WEIGHT)


def test_wrong_device():
    with pytest.raises(ValueError, match="input is on meta and the model on cpu"):
        check_input(torch.zeros(2, 3, device="meta"), POINTS, WEIGHT)


def test_traces_hold_no_checks():
    def function(x):
        check_input(x, POINTS, WEIGHT)
        return 2 * x

    traced = torch.jit.trace(function, torch.ones(2, 3))
    assert traced(torch.ones(5, 3)).shape == (5, 3)


def test_symbolic_traces_hold_the_checks():
    class Double(torch.nn.Module):
        def forward(self, x):
            check_input(x, POINTS, WEIGHT)
            return 2 * x

    traced = torch.fx.symbolic_trace(Double())
    assert traced(torch.ones(5, 3)).shape == (5, 3)
    with pytest.raises(ValueError, match="in_features is 4"):
        traced(torch.ones(5, 4))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_layout_of_fields(dimension):
    names = ["batch", "in_channels", "n1", "n2", "n3"][: 2 + dimension]
    assert list(field_layout(3, dimension).items()) == [
        (name, 3 if name == "in_channels" else None) for name in names
    ]


def test_options_that_are_large_enough():
    check_at_least(1, width=1, depth=5)
    check_at_least(0, width=0)


@pytest.mark.parametrize(("least", "value"), [(1, 0), (0, -1), (2, -3)])
def test_option_that_is_too_small(least, value):
    with pytest.raises(ValueError, match=f"expected depth of at least {least}, got {value}"):
        check_at_least(least, width=least, depth=value)


def test_grids_that_are_large_enough():
    check_grid(torch.zeros(0, 1, 4, 9), 4, "never said")


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 9, 5, 3), (2, 9, 3, 5, 7)])
def test_grid_that_is_too_small(shape):
    message = r"grid of at least 4 points along each axis, got an input of shape \(2, 9, .*; refine"
    with pytest.raises(ValueError, match=message):
        check_grid(torch.zeros(shape), 4, "refine it")


def test_checks_of_grids_in_traces():
    class Double(torch.nn.Module):
        def forward(self, x):
            check_grid(x, 4, "refine it")
            return 2 * x

    assert torch.jit.trace(Double(), torch.ones(1, 1, 4))(torch.ones(1, 1, 3)).shape == (1, 1, 3)
    with pytest.raises(ValueError, match="grid of at least 4 points"):
        torch.fx.symbolic_trace(Double())(torch.ones(1, 1, 3))
