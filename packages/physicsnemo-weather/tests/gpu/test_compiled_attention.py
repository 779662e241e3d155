# SPDX-License-Identifier: Apache-2.0
"""Attention within windows, compiled for a GPU, equals what is not compiled."""

from functools import partial

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from physicsnemo.models.pangu import Pangu
from physicsnemo.models.window_layers.attention import flex_with_bias

pytestmark = pytest.mark.gpu

# Points of a window and channels of a head: of Pangu, of SwinRNN, and of the smallest windows.
SIZES = [(144, 32), (144, 16), (49, 192), (8, 16), (1, 16)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("points", "channels"), SIZES)
def test_compiled_attention_is_that_of_double_precision(points, channels, dtype, gpu):
    draw = partial(torch.randn, device=gpu, dtype=torch.float64)
    exact = [draw(2, 12, points, channels) for _ in range(3)] + [draw(1, 12, points, points)]
    expected = with_gradients(scaled_dot_product_attention, exact)
    compiled = torch.compile(flex_with_bias, fullgraph=True)
    got = with_gradients(compiled, [x.to(dtype) for x in exact])
    tolerance = 8 * torch.finfo(dtype).eps
    scales = expected if points > 1 else scales_of_one_point(*exact)
    for one, other, scale in zip(expected, got, scales, strict=True):
        assert (one - other).norm() / scale.norm() < tolerance


def with_gradients(function, arguments):
    arguments = [x.requires_grad_() for x in arguments]
    output = function(*arguments)
    gradients = torch.autograd.grad(output.square().sum(), arguments)
    return [x.detach().double() for x in (output, *gradients)]


@torch.no_grad()
def scales_of_one_point(q, k, v, bias):
    """Return the size of what gradients of a window of one point are rounded to.

    Its weight is 1 whatever the logit is, so that gradients of queries, keys and biases are the
    difference of two products which are the same but for round-off.
    """
    product = 2 * v.square().sum(-1, keepdim=True)
    root = q.shape[-1] ** 0.5
    terms = [v, product * k / root, product * q / root, 2 * v, product.sum(0, keepdim=True)]
    return [term.expand_as(like) for term, like in zip(terms, (v, q, k, v, bias), strict=True)]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float16, 1e-2)], ids=str
)
def test_compiled_pangu_is_that_of_single_precision(dtype, tolerance, gpu, outputs_and_gradients):
    torch.manual_seed(0)
    model = Pangu(img_size=(45, 90), embed_dim=96).to(gpu).eval()
    inputs = (torch.randn(1, 72, 45, 90, device=gpu),)
    # Scaled, so that gradients are within the range of half precision.
    expected = outputs_and_gradients(model, model, inputs, scale=100)
    compiled = torch.compile(model, fullgraph=True)
    got = outputs_and_gradients(compiled, model, inputs, dtype, scale=100)
    for one, other in zip(expected, got, strict=True):
        assert (one - other).norm() / one.norm() < tolerance
