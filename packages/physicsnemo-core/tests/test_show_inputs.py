# SPDX-License-Identifier: Apache-2.0
"""Inputs of the model on the page of ``physicsnemo show``."""

import numpy as np
import pytest
import torch

from physicsnemo.cli.page import inputs
from physicsnemo.cli.page.inputs import (
    Call,
    InputError,
    as_input,
    described,
    random_call,
    tensors_of,
)

X, Y, LABELS = torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([1, 4])


def call(*args, **kwargs):
    return Call.of({"args": list(args), "kwargs": kwargs})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (call(X), ["input"]),
        (call(X, Y), ["input 1", "input 2"]),
        (call(X, 0.5, [Y, None]), ["input 1", "input 3[0]"]),
        (call(x=X, more={"y": Y}), ["x", "more['y']"]),
        (call(X, y=Y), ["input 1", "y"]),
        (call(), []),
    ],
)
def test_names_of_tensors(given, names):
    assert list(given.tensors) == names


def test_one_tensor_takes_the_place_of_another():
    given = call(X, 0.5, parts=[Y, LABELS])
    new = torch.full((4, 3), 7.0)
    changed = given.with_tensor("parts[0]", new)
    assert changed.args[0] is X
    assert changed.args[1] == 0.5
    assert changed.kwargs["parts"][0] is new
    assert changed.kwargs["parts"][1] is LABELS
    assert given.kwargs["parts"][0] is Y


def test_random_numbers_are_the_same_each_time():
    one, again = random_call("1,3,8,8"), random_call(" 1, 3, 8, 8 ")
    assert torch.equal(one.args[0], again.args[0])
    assert one.args[0].shape == (1, 3, 8, 8)
    assert one.kwargs == {}
    large = random_call("40000").args[0]  # normal: mean 0 and variance 1, up to four deviations
    assert abs(float(large.mean())) < 4 / 200
    assert abs(float(large.var()) - 1) < 4 * (2 / 40000) ** 0.5


def test_random_numbers_by_name():
    drawn = random_call("x=8,3 labels=8:10")
    assert drawn.args == ()
    assert drawn.kwargs["x"].shape == (8, 3)
    assert drawn.kwargs["labels"].dtype == torch.int64
    assert 0 <= drawn.kwargs["labels"].min() <= drawn.kwargs["labels"].max() < 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the shape of each input, as in 1,3,64,64, got nothing"),
        ("8x3", "expected sizes, as in 8,3 or x=8,3 or 8:10, got '8x3'"),
        ("8,3 x=8", "name all inputs, as in x=8,3, or none"),
        ("100000,100000", "of at most 33,554,432 numbers, got 10,000,000,000: 100000,100000"),
    ],
)
def test_texts_that_describe_no_input(text, message):
    with pytest.raises(InputError) as caught:
        random_call(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (call(X, Y), "2,3 2,3"),
        (call(x=X, labels=LABELS), "x=2,3 labels=2:5"),
        (call(X, y=Y), ""),
        (call(X, 0.5), ""),
        (call(torch.tensor(1.0)), ""),
        (call(), ""),
    ],
)
def test_the_shapes_of_an_example_as_text(given, text):
    assert described(given) == text
    if text:
        drawn = random_call(text).tensors
        assert [it.shape for it in drawn.values()] == [it.shape for it in given.tensors.values()]


@pytest.mark.parametrize(
    ("array", "like", "expected"),
    [
        (np.ones((4, 3)), X, torch.float32),
        (np.ones((4, 3), "i8"), X, torch.float32),
        (np.ones(3, "f4"), LABELS, torch.int64),
        (np.ones(3), None, torch.float64),
        (np.ones(3, "f2"), None, torch.float64),
        (np.ones(3, "g"), None, torch.float64),
        (np.ones(3, "u2"), None, torch.int64),
        (np.ones(3, "?"), None, torch.bool),
        (np.ones(3, "c16"), None, torch.complex128),
    ],
)
def test_types_of_arrays(array, like, expected):
    tensor = as_input(array, "x", like, torch.float64)
    assert tensor.dtype == expected
    assert tensor.shape == array.shape
    assert tensor.real.sum() == array.size


def test_another_number_of_axes():
    text = (
        r"expected x to have 2 axes, as in the example, where its shape is \(2, 3\); got an array "
        r"of shape \(3,\)"
    )
    with pytest.raises(InputError, match=text):
        as_input(np.ones(3), "x", X, torch.float32)


@pytest.mark.parametrize(
    ("array", "like"),
    [
        (np.array([0.0, 1.5]), LABELS),
        (np.array([0.0, np.nan]), LABELS),
        (np.array([300]), LABELS.to(torch.uint8)),
        (np.array([1j]), torch.ones(1)),
        (np.array([1j]), LABELS),
    ],
)
def test_numbers_that_the_input_cannot_hold(array, like):
    kind = str(like.dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=f"expected x to hold numbers that {kind} can hold"):
        as_input(array, "x", like, torch.float32)


def test_tensors_in_what_a_model_returns():
    found = tensors_of({"output": (X, {"y": Y}, None)})
    assert list(found) == ["output[0]", "output[1]['y']"]
    assert list(tensors_of({"output": X})) == ["output"]


def test_the_bound_is_of_all_inputs(monkeypatch):
    monkeypatch.setattr(inputs, "LARGEST", 80)
    assert random_call("5 5").tensors.keys() == {"input 1", "input 2"}
    with pytest.raises(InputError, match="of at most 10 numbers, got 11"):
        random_call("5 6")
