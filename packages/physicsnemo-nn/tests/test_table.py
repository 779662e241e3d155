# SPDX-License-Identifier: Apache-2.0
"""Tables follow their model, and keep the digits of its type."""

import copy
import pickle

import pytest
import torch
from torch import nn

from physicsnemo.nn.table import Table


def thirds():
    return torch.arange(4, dtype=torch.float64, device="cpu") / 3


EXACT = thirds()


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("default", "expected"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.half, torch.float32)],
)
def test_the_default_type_is_that_of_new_tables(default_dtype, default, expected):
    default_dtype(default)
    assert Table(thirds).value.equal(EXACT.to(expected))
    assert Table(thirds).value.dtype == expected


def test_no_digit_is_lost_on_any_way_to_float64():
    table = Table(thirds)
    assert table.value.dtype == torch.float32
    assert table.double().value.equal(EXACT)
    assert table.float().value.equal(EXACT.float())
    assert table.half().value.equal(EXACT.float())
    assert table.bfloat16().to(torch.float64).value.equal(EXACT)
    assert nn.Sequential(table).half().double()[0].value.equal(EXACT)


def test_float32_is_the_least():
    assert Table(thirds).like(torch.zeros(1, dtype=torch.bfloat16)).equal(EXACT.float())
    assert Table(thirds).double().like(torch.zeros(1)).equal(EXACT.float())


def test_missing_digits_are_not_made_up():
    x = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"float32 or less, .*got torch.float64; .*module\.to\("):
        Table(thirds).like(x)
    assert Table(thirds).double().like(x).equal(EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("start", ["cpu", "meta"])
def test_values_come_back_where_memory_holds_none(start, dtype):
    with torch.device(start):
        table = Table(thirds).to(dtype)
    assert table.to_empty(device="cpu").value.equal(EXACT.to(dtype))
    assert table.to("meta").value.is_meta
    assert table.to_empty(device="cpu").value.equal(EXACT.to(dtype))


def test_not_saved_but_copied():
    table = Table(thirds).double()
    assert table.state_dict() == {}
    for twin in (copy.deepcopy(table), pickle.loads(pickle.dumps(table))):
        assert twin.value.equal(EXACT)
        assert twin.float().double().value.equal(EXACT)
