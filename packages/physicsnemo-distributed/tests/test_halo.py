# SPDX-License-Identifier: Apache-2.0
"""Rows of neighbours, convolutions that see them, and moments of all processes' values."""

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional

from physicsnemo.distributed.halo import convolve, halo
from physicsnemo.distributed.normalization import normalize

CONVOLUTIONS = {
    "line": {"kernel": (3,), "padding": (1,)},
    "wide": {"kernel": (5, 3), "padding": (2, 1)},
    "spread": {"kernel": (3, 3), "padding": (2, 1), "dilation": (2, 1)},
    "grouped": {"kernel": (3, 3), "padding": (1, 0), "groups": 2},
    "halved": {"kernel": (3, 3), "padding": (1, 1), "stride": (2, 2)},
    "even": {"kernel": (4, 2), "padding": (1, 0), "stride": (2, 1)},
    "of-7": {"kernel": (7, 1), "padding": (3, 0), "stride": (2, 1)},
    "volume": {"kernel": (3, 3, 3), "padding": (1, 1, 1)},
}
CLOSE = {"rtol": 1e-13, "atol": 1e-13}


@pytest.mark.parametrize("periodic", [False, True], ids=["bounded", "periodic"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(processes, name, periodic):
    processes.run(check_convolution, name, periodic)


def test_the_halo_has_derivatives_of_any_order(processes):
    processes.run(check_halo)


@pytest.mark.parametrize("weighted", [False, True])
def test_normalization(processes, weighted):
    processes.run(check_normalization, weighted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_normalization_in_half_precision(processes, dtype):
    processes.run(check_half_precision, dtype)


def own_rows(x, cut):
    """Return this process's rows of whole fields, as a tensor of its own."""
    rows = x.detach().tensor_split([cut], dim=2)[dist.get_rank()]
    return rows.clone().requires_grad_()


def check_convolution(name, periodic):
    """Compare with PyTorch's convolution of the whole."""
    kernel, padding, stride, dilation, groups = (
        CONVOLUTIONS[name].get(key, default)
        for key, default in zip(
            ("kernel", "padding", "stride", "dilation", "groups"),
            ((), (), (1, 1, 1), (1, 1, 1), 1),
            strict=True,
        )
    )
    axes = len(kernel)
    stride, dilation = stride[:axes], dilation[:axes]
    torch.manual_seed(0)
    whole = torch.randn(2, 4, 10, *[6] * (axes - 1), dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    operation = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    around = padding[0] if periodic else 0
    x = torch.cat((whole[:, :, 10 - around :], whole, whole[:, :, :around]), dim=2)
    rows = 0 if periodic else padding[0]
    expected = operation(x, weight, bias, stride, (rows, *padding[1:]), dilation, groups)
    factor = torch.randn_like(expected)
    (expected * factor).sum().backward()

    own = own_rows(whole, 6)
    own_weight, own_bias = (it.detach().clone().requires_grad_() for it in (weight, bias))
    got = convolve(
        own,
        own_weight,
        own_bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        group=dist.group.WORLD,
        periodic=periodic,
    )
    rank, cut = dist.get_rank(), 6 // stride[0]
    torch.testing.assert_close(got, expected.tensor_split([cut], 2)[rank], **CLOSE)
    (got * factor.tensor_split([cut], 2)[rank]).sum().backward()
    torch.testing.assert_close(own.grad, whole.grad.tensor_split([6], 2)[rank], **CLOSE)
    for parameter, alone in ((own_weight, weight), (own_bias, bias)):
        dist.all_reduce(parameter.grad)
        torch.testing.assert_close(parameter.grad, alone.grad, **CLOSE)


def check_halo():
    """Differentiate twice what both processes have of each other's rows."""
    x = own_rows(torch.arange(10.0, dtype=torch.float64).view(1, 1, 10) + 1, 6)
    before, after = halo(x, 2, 1, 2, dist.group.WORLD, periodic=True)
    if dist.get_rank() == 0:
        assert before.flatten().tolist() == [10]
        assert after.flatten().tolist() == [7, 8]
    value = before.pow(3).sum() + after.pow(3).sum()
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    count = torch.zeros(6 if dist.get_rank() == 0 else 4, dtype=torch.float64)
    count[:2] += 1
    count[-1] += 1  # the other process sees two first rows of this one's, and the last
    torch.testing.assert_close(first.flatten(), 3 * count * x.flatten() ** 2, **CLOSE)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second.flatten(), 6 * count * x.flatten().detach(), **CLOSE)


def normalized(x, weight, bias, share):
    """Return rows normalized by groups of two of their four channels."""
    grouped = x.unflatten(1, (2, 2))
    shaped = (None if it is None else it.view(1, 2, 2, 1, 1) for it in (weight, bias))
    result, mean, variance = normalize(
        grouped,
        *shaped,
        axes=(2, 3, 4),
        share=share,
        eps=1e-5,
        correction=1.0,
        group=dist.group.WORLD,
    )
    return result.flatten(1, 2), mean, variance


def check_normalization(weighted):
    """Compare with PyTorch's normalization of the whole."""
    torch.manual_seed(0)
    whole = (3 * torch.randn(2, 4, 10, 6, dtype=torch.float64) + 50).requires_grad_()
    weight, bias = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    parameters = (weight, bias) if weighted else (None, None)
    expected = functional.group_norm(whole, 2, *parameters, 1e-5)
    factor = torch.randn_like(expected)
    (expected * factor).sum().backward()

    own = own_rows(whole, 6)
    ours = [None if it is None else it.detach().clone().requires_grad_() for it in parameters]
    got, mean, variance = normalized(own, *ours, own.shape[2] / 10)
    groups = whole.detach().unflatten(1, (2, 2))
    torch.testing.assert_close(mean, groups.mean((2, 3, 4), keepdim=True), **CLOSE)
    spread = groups.var((2, 3, 4), correction=0, keepdim=True)
    torch.testing.assert_close(variance, spread, rtol=1e-12, atol=0)
    right = expected.tensor_split([6], 2)[dist.get_rank()]
    torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)
    (got * factor.tensor_split([6], 2)[dist.get_rank()]).sum().backward()
    right = whole.grad.tensor_split([6], 2)[dist.get_rank()]
    torch.testing.assert_close(own.grad, right, rtol=1e-12, atol=1e-12)
    for parameter, alone in zip(ours, parameters, strict=True):
        if parameter is not None:
            dist.all_reduce(parameter.grad)
            torch.testing.assert_close(parameter.grad, alone.grad, rtol=1e-12, atol=1e-12)


def check_half_precision(dtype):
    """Compare with double precision: the result is rounded once."""
    torch.manual_seed(0)
    whole = (torch.randn(2, 4, 10, 6) + 5).to(dtype)
    weight, bias = torch.randn(4), torch.randn(4)
    expected = functional.group_norm(whole.double(), 2, weight.double(), bias.double(), 1e-5)
    own = own_rows(whole, 6)
    got, _, _ = normalized(own, weight, bias, own.shape[2] / 10)
    assert got.dtype == dtype
    right = expected.tensor_split([6], 2)[dist.get_rank()]
    bound = torch.finfo(dtype).eps * right.abs().max()
    assert (got.double() - right).abs().max() <= bound
