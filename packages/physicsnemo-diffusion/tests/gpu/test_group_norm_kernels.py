# SPDX-License-Identifier: Apache-2.0
"""The kernels of fused group normalization against its definition in float64.

With ``TRITON_INTERPRET=1``, these tests need Triton but no GPU.
"""

import os
from functools import partial

import pytest
import torch
from torch.nn.functional import silu

from physicsnemo.models.diffusion.layers import _fused_group_norm as fused

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED:
    pytestmark = pytest.mark.gpu

TOLERANCES = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
EPS = 1e-3


@pytest.fixture
def device():
    return torch.device("cpu" if INTERPRETED else "cuda")


def by_definition(x, weight, bias, groups, eps, unbiased, silu_follows, offset, modulation):
    x = x if offset is None else x + offset
    grouped = x.reshape(len(x), groups, -1)
    var, mean = torch.var_mean(grouped, dim=2, correction=int(unbiased), keepdim=True)
    y = ((grouped - mean) / (var + eps).sqrt()).reshape(x.shape)
    y = y * weight[:, None, None] + bias[:, None, None]
    if modulation is not None:
        scale, shift = modulation.chunk(2, dim=1)
        y = y * (1 + scale) + shift
    return silu(y) if silu_follows else y


def by_kernels(
    x, weight, bias, groups, eps, unbiased, silu_follows, offset, modulation, domain=None
):
    return fused.group_norm(
        x,
        weight,
        bias,
        groups,
        eps,
        unbiased=unbiased,
        silu=silu_follows,
        offset=offset,
        modulation=None if modulation is None else modulation.chunk(2, dim=1),
        domain=domain,
    )


def made(device, shape, dtype=torch.float32, mean=0.0, has_offset=False, is_modulated=False):
    """Return images, weights, biases, and perhaps an offset and a modulation, exact in a type."""
    batch, channels, *_ = shape

    def normal(*size):
        return torch.randn(*size).to(device, dtype)

    x = (mean + torch.randn(shape)).to(device, dtype, memory_format=torch.channels_last)
    offset = normal(1, channels, 1, 1) if has_offset else None
    modulation = normal(batch, 2 * channels, 1, 1) if is_modulated else None
    weights = (torch.randn(channels, device=device) for _ in range(2))
    return [x, *weights, offset, modulation], normal(*shape)


def results(function, tensors, gradient, groups, unbiased, silu_follows, dtype=None):
    """Return the output, and gradients of all tensors."""
    tensors = [None if it is None else it.detach().to(dtype or it.dtype) for it in tensors]
    leaves = [it.requires_grad_() for it in tensors if it is not None]
    y = function(*tensors[:3], groups, EPS, unbiased, silu_follows, *tensors[3:])
    return [y.detach(), *torch.autograd.grad(y, leaves, gradient.to(y.dtype))]


def assert_near(found, expected, tolerance):
    for got, right in zip(found, expected, strict=True):
        assert (got.double() - right).norm() <= tolerance * right.norm()


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize(
    ("silu_follows", "has_offset", "is_modulated", "unbiased"),
    [(False, False, False, False), (True, True, False, False), (True, False, True, True)],
    ids=["plain", "offset", "modulated"],
)
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((3, 6, 7, 9), 2), ((2, 12, 33, 40), 1), ((1, 160, 5, 3), 32), ((2, 4, 1, 2), 2)],
    ids=str,
)
def test_values_and_gradients(
    device, shape, groups, dtype, silu_follows, has_offset, is_modulated, unbiased
):
    given = made(device, shape, dtype, 3.0, has_offset, is_modulated)
    options = groups, unbiased, silu_follows
    found = results(by_kernels, *given, *options)
    assert all(it.dtype == of.dtype for it, of in zip(found[1:3], given[0][:2], strict=True))
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert_near(found, results(by_definition, *given, *options, torch.float64), TOLERANCES[dtype])


class Half:
    """One of two ranks, which gets what the other sent when it did the same before."""

    size = 2

    def __init__(self, rank):
        self.rank, self.sent, self.received = rank, [], []

    def _exchange(self, x):
        self.sent.append(x)
        return self.received.pop(0) if self.received else x

    def all_gather(self, x, axis, sizes):
        assert sizes == [1, 1]
        pair = [x, self._exchange(x)]
        return torch.cat(pair if self.rank == 0 else pair[::-1], axis)

    def all_reduce(self, x):
        return x + self._exchange(x)


@pytest.mark.parametrize("programs", [1, 7, 1024])
@pytest.mark.parametrize("unbiased", [False, True])
def test_rows_of_two_ranks(device, monkeypatch, programs, unbiased):
    monkeypatch.setattr(fused, "_PROGRAMS", programs)
    monkeypatch.setattr(fused, "_TILE", 64)
    (x, *others), gradient = made(device, (2, 12, 10, 7), torch.float32, 3.0, True, True)
    x += torch.arange(10, device=device)[:, None]  # means of the ranks differ
    options = 3, unbiased, True
    exact = results(by_definition, (x, *others), gradient, *options, torch.float64)
    halves = Half(0), Half(1)
    for _ in range(3):  # moments are right after the first exchange, sums after the second
        found = []
        for half, part, dy in zip(halves, x.chunk(2, dim=2), gradient.chunk(2, dim=2), strict=True):
            part = part.contiguous(memory_format=torch.channels_last)
            of_rank = partial(by_kernels, domain=half)
            found.append(results(of_rank, (part, *others), dy, *options))
        for half, other in zip(halves, halves[::-1], strict=True):
            half.received, other.sent = other.sent, []
    by_rows = [torch.cat(pair, dim=2) for pair in zip(*(it[:2] for it in found), strict=True)]
    of_others = [sum(pair) for pair in zip(*(it[2:] for it in found), strict=True)]
    assert_near([*by_rows, *of_others], exact, 3e-6)


@pytest.mark.parametrize(("programs", "combined"), [(2, 1024), (40, 16), (1, 1)])
def test_shares_of_several_tiles(device, monkeypatch, programs, combined):
    """Programs see several tiles, of which the last is not full, and combine in several rounds."""
    monkeypatch.setattr(fused, "_PROGRAMS", programs)
    monkeypatch.setattr(fused, "_PARTIAL", combined)
    monkeypatch.setattr(fused, "_TILE", 64)
    monkeypatch.setattr(fused, "_MOST_CHANNELS", 8)
    given = made(device, (2, 12, 9, 11), has_offset=True, is_modulated=True)
    options = 3, False, True
    found = results(by_kernels, *given, *options)
    assert_near(found, results(by_definition, *given, *options, torch.float64), 3e-6)


def test_a_large_mean_cancels_nothing(device):
    (x, *others), gradient = made(device, (2, 8, 16, 16))
    x = x + 4096
    found = results(by_kernels, (x, *others), gradient, 2, False, True)
    exact = results(by_definition, (x, *others), gradient, 2, False, True, torch.float64)
    # Next to such a mean, float32 has a spacing of 2**-11; squares would have one of 1.
    assert_near(found, exact, 1e-3)


def test_gradients_that_are_not_channels_last(device):
    given, gradient = made(device, (2, 8, 5, 6))
    layouts = gradient, gradient.contiguous(memory_format=torch.channels_last)
    first, second = (results(by_kernels, given, it, 2, False, True) for it in layouts)
    assert all(map(torch.equal, first, second))


def test_second_derivatives(device):
    given, _ = made(device, (2, 4, 3, 2), is_modulated=True, has_offset=True)

    def penalty(function, dtype):
        leaves = [it.detach().to(dtype).requires_grad_() for it in given]
        y = function(*leaves[:3], 2, EPS, False, True, *leaves[3:])
        gradients = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(it.square().sum() for it in gradients), leaves)

    assert_near(
        penalty(by_kernels, torch.float32), penalty(by_definition, torch.float64), tolerance=1e-5
    )


def test_gradients_of_several_at_once(device):
    """As for a Jacobian: vmap calls the backward pass with all of them."""
    (x, weight, bias, *_), _ = made(device, (1, 4, 2, 2))
    x.requires_grad_()
    y = fused.group_norm(x, weight, bias, 2, EPS, silu=True)
    basis = torch.eye(y.numel(), device=device).view(-1, *y.shape)
    (rows,) = torch.autograd.grad(y, x, basis, is_grads_batched=True, retain_graph=True)
    for row, direction in zip(rows, basis, strict=True):
        (expected,) = torch.autograd.grad(y, x, direction, retain_graph=True)
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-6)


def test_only_wanted_gradients(device):
    (x, weight, bias, *_), gradient = made(device, (2, 8, 5, 6))
    weight.requires_grad_()
    y = fused.group_norm(x, weight, bias, 2, EPS)
    y.backward(gradient)
    assert x.grad is bias.grad is None
    normed = fused.group_norm(x, torch.ones_like(weight), torch.zeros_like(bias), 2, EPS)
    torch.testing.assert_close(weight.grad, (normed * gradient).sum((0, 2, 3)))
