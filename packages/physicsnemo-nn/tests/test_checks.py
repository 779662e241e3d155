# SPDX-License-Identifier: Apache-2.0
"""What a model says of inputs that it cannot take."""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from physicsnemo.nn.checks import (
    check_above,
    check_at_least,
    check_between,
    check_choice,
    check_dense,
    check_grid,
    check_input,
    field_layout,
    is_integer,
)

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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "(..., in_features=3), got None; pass one"),
        ([[1.0, 2.0, 3.0]], "got a list; convert it, as in torch.as_tensor(x, dtype=torch.float32"),
        (np.zeros((2, 3)), "got a ndarray; convert it, as in torch.as_tensor(x, dtype="),
        (1.5, "got a float; convert it"),
        ("points", "got the text 'points'"),
    ],
)
def test_no_tensor(given, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        check_input(given, POINTS, WEIGHT)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr])
def test_sparse_tensor(convert):
    with pytest.raises(TypeError, match=r"in a dense tensor, got a tensor with layout.*to_dense"):
        check_input(convert(torch.eye(3)), POINTS, WEIGHT)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensor():
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)])
    with pytest.raises(TypeError, match=r"in a dense tensor, got a nested tensor"):
        check_input(nested, POINTS, WEIGHT)


@pytest.mark.parametrize(
    ("given", "own"),
    [(torch.float64, torch.float32), (torch.float32, torch.float64), (torch.half, torch.float32)],
)
def test_type_unlike_the_weights(given, own):
    x, weight = torch.zeros(2, 3, dtype=given), torch.zeros(1, dtype=own)
    message = rf"input of {own}, as the weights are, got {given}; .* x.to\({own}\), .*\({given}\)"
    with pytest.raises(TypeError, match=message):
        check_input(x, POINTS, weight)
    check_input(x, POINTS, weight, numbers="floating")


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_types_that_autocast_mixes(given, own):
    with torch.autocast("cpu", torch.bfloat16):
        check_input(torch.zeros(2, 3, dtype=given), POINTS, torch.zeros(1, dtype=own))


@pytest.mark.parametrize(
    ("given", "own"), [(torch.float64, torch.float32), (torch.float32, torch.float64)]
)
def test_types_that_autocast_leaves_alone(given, own):
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(TypeError, match=f"of {own}, as the weights are, got {given}"),
    ):
        check_input(torch.zeros(2, 3, dtype=given), POINTS, torch.zeros(1, dtype=own))


def test_whole_numbers_where_they_will_do():
    check_input(torch.zeros(2, 3, dtype=torch.int64), POINTS, WEIGHT, numbers="real")
    for dtype in (torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"expected labels of real numbers, got {dtype}"):
            check_input(
                torch.zeros(2, 3, dtype=dtype), POINTS, WEIGHT, name="labels", numbers="real"
            )


def test_only_the_first_axis_may_be_empty():
    check_input(torch.zeros(0, 3, 8, 9), FIELD, WEIGHT)
    check_input(torch.zeros(0, 3), POINTS, WEIGHT)
    check_input(torch.zeros(4, 0, 3), POINTS, WEIGHT)
    with pytest.raises(ValueError, match=r"got \(2, 3, 0, 9\), where n1 is 0; expected at least"):
        check_input(torch.zeros(2, 3, 0, 9), FIELD, WEIGHT)
    check_input(torch.zeros(2, 3, 0, 9), FIELD | {"n1": ...}, WEIGHT)


def test_advice_on_axes():
    with pytest.raises(ValueError, match=r"if the channels are last, .* x\.permute\(0, 3, 1, 2\)"):
        check_input(torch.zeros(2, 8, 9, 3), FIELD, WEIGHT)
    with pytest.raises(ValueError, match=r"if it is one sample, .* x\.unsqueeze\(0\)"):
        check_input(torch.zeros(3, 8, 9), FIELD, WEIGHT)
    with pytest.raises(ValueError, match=r"where in_channels is 4$"):
        check_input(torch.zeros(2, 4, 8, 9), FIELD, WEIGHT)
    with pytest.raises(ValueError, match=r"if it is a batch of one, .* x\.squeeze\(0\)"):
        check_input(torch.zeros(1, 2, 3, 8, 9), FIELD, WEIGHT)
    with pytest.raises(ValueError, match=r"axes are in the other order, transpose it, as in x\.T"):
        check_input(torch.zeros(3, 8), POINTS, WEIGHT)
    with pytest.raises(ValueError, match=r"one feature of each, .* x\.unsqueeze\(-1\)"):
        check_input(torch.zeros(8), {"...": None, "in_features": 1}, WEIGHT)


def test_name_of_the_argument():
    with pytest.raises(ValueError, match=r"^expected mod of shape \(\.\.\., in_features=3\), got"):
        check_input(torch.zeros(2, 4), POINTS, WEIGHT, name="mod")
    with pytest.raises(ValueError, match=r"^mod is on meta and the model on cpu"):
        check_input(torch.zeros(2, 3, device="meta"), POINTS, WEIGHT, name="mod")


def test_checks_under_transforms_and_compilers():
    def double(x):
        check_input(x, FIELD, WEIGHT)
        return 2 * x

    x = torch.ones(2, 3, 4, 5)
    assert torch.vmap(double)(x[None]).equal(2 * x[None])
    compiled = torch.compile(double, fullgraph=True, backend="eager", dynamic=True)
    assert compiled(x).equal(2 * x)
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled(x.bfloat16()).equal(2 * x.bfloat16())


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


@pytest.mark.parametrize("value", [3, True, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers(value):
    assert is_integer(value)
    check_at_least(1, width=value)


def test_a_tensor_in_place_of_a_number_is_not_printed():
    with pytest.raises(TypeError, match=r"width to be a whole number, got a Tensor$"):
        check_at_least(1, width=torch.zeros(4, 4))


@pytest.mark.parametrize("value", ["3", None, 3.0, np.float64(3), Fraction(3), [3], 3j])
def test_no_whole_numbers(value):
    assert not is_integer(value)
    with pytest.raises(TypeError, match="expected width to be a whole number, got"):
        check_at_least(1, width=value)


def test_numbers_in_a_range():
    check_between(0, 1, rate=0, other_rate=np.float32(0.5), last=1.0)
    check_above(0, ratio=1e-9, other_ratio=np.int64(2))


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_numbers_outside_of_a_range(value):
    with pytest.raises(ValueError, match=f"expected rate from 0 to 1, got {value}"):
        check_between(0, 1, rate=value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_numbers_below_a_limit(value):
    with pytest.raises(ValueError, match=f"expected ratio to be a finite .* 0, got {value}"):
        check_above(0, ratio=value)


@pytest.mark.parametrize("value", ["0.5", None, [0.5], 1j])
def test_no_numbers(value):
    with pytest.raises(TypeError, match="expected rate to be a number, got"):
        check_between(0, 1, rate=value)
    with pytest.raises(TypeError, match="expected rate to be a number, got"):
        check_above(0, rate=value)


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


def test_choices():
    check_choice("norm", "none", ("layer", "none"))
    with pytest.raises(ValueError, match="^expected norm to be one of layer, none, got 'batch'$"):
        check_choice("norm", "batch", {"layer": 1, "none": 2})
    with pytest.raises(ValueError, match=r"got \['layer'\]$"):
        check_choice("norm", ["layer"], {"layer": 1})


def test_dense_tensors():
    check_dense("x", torch.zeros(2))
    with pytest.raises(TypeError, match=r"^expected x to be a tensor, got a list; .*_tensor\(x\)$"):
        check_dense("x", [0.0])
    with pytest.raises(TypeError, match=r"as in torch.as_tensor\(x, device='cpu'\)$"):
        check_dense("x", None, beside=torch.zeros(1))
    with pytest.raises(TypeError, match=r"dense tensor, got layout torch.sparse_coo; .*to_dense"):
        check_dense("x", torch.eye(2).to_sparse())
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged)
    with pytest.raises(TypeError, match="x to be a dense tensor"):
        check_dense("x", nested)
