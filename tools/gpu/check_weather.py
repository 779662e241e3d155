# SPDX-License-Identifier: Apache-2.0
"""Test what weather models promise on a GPU: equal numbers compiled, the same bits each time.

Run it on a machine with a GPU: ``python -m tools.gpu.check_weather [WORD ...]`` runs the checks
whose name contains all words. It prints one line a check and how many passed.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from physicsnemo.models.pangu import Pangu
from physicsnemo.models.window_layers.attention import flex_with_bias
from physicsnemo.testing import Case
from tools.cases import all_cases
from tools.gpu.capture_common import require
from tools.gpu.checking import gradients, on_gpu, require_same_bits, run

Checks = Iterator[tuple[str, Callable[[], None]]]
REPEATABLE = ("DLWP", "HEALPixUNet", "HEALPixRecUNet", "GraphCastNet")
# Points of a window and channels of a head: of Pangu, of SwinRNN, and of the smallest windows.
SIZES = [(144, 32), (144, 16), (49, 192), (8, 16), (1, 16)]


def checks() -> Checks:
    """Yield the name of each check and the function that raises an error if it fails."""
    for (points, channels), dtype in product(SIZES, (torch.float32, torch.float16, torch.bfloat16)):
        name = f"attention of {points} points, {channels} channels, {dtype}"
        yield f"{name}: compiled as in double precision", partial(_attend, points, channels, dtype)
    for dtype in (torch.float32, torch.float16):
        yield f"Pangu, {dtype}: compiled as without", partial(_compile_pangu, dtype)
    for case in (case for case in all_cases() if str(case.model) in REPEATABLE):
        yield f"{case}: the same bits each time", partial(_repeat, case)


def _attend(points: int, channels: int, dtype: torch.dtype) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    draw = partial(torch.randn, generator=generator, device="cuda", dtype=torch.float64)
    exact = [draw(2, 12, points, channels) for _ in range(3)] + [draw(1, 12, points, points)]
    compiled = torch.compile(flex_with_bias, fullgraph=True)
    expected = _with_gradients(scaled_dot_product_attention, exact)
    got = _with_gradients(compiled, [x.to(dtype) for x in exact])
    tolerance = 8 * torch.finfo(dtype).eps
    scales = expected if points > 1 else _cancelling(*exact)
    for one, other, scale in zip(expected, got, scales, strict=True):
        difference = (one - other).norm() / scale.norm()
        require(difference < tolerance, f"a relative difference of {difference:.1e}")


def _cancelling(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> list[Tensor]:
    """Return the size of what gradients of a window of one point are rounded to.

    Its weight is 1 whatever the logit is, so that gradients of queries, keys and biases are the
    difference of two products which are the same but for round-off.
    """
    with torch.no_grad():
        product = 2 * v.square().sum(-1, keepdim=True)
        root = q.shape[-1] ** 0.5
        terms = [v, product * k / root, product * q / root, 2 * v, product.sum(0, keepdim=True)]
    return [term.expand_as(like) for term, like in zip(terms, (v, q, k, v, bias), strict=True)]


def _with_gradients(function: Callable[..., Tensor], arguments: list[Tensor]) -> list[Tensor]:
    arguments = [x.requires_grad_() for x in arguments]
    output = function(*arguments)
    gradients = torch.autograd.grad(output.square().sum(), arguments)
    return [x.detach().double() for x in (output, *gradients)]


def _compile_pangu(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Pangu(img_size=(45, 90), embed_dim=96).cuda().eval()
    inputs = (torch.randn(1, 72, 45, 90, device="cuda"),)
    # Scaled, so that gradients are within the range of half precision.
    expected = gradients(model, model, inputs, torch.float32, scale=100)
    compiled = torch.compile(model, fullgraph=True)
    got = gradients(compiled, model, inputs, dtype, scale=100)
    tolerance = 1e-3 if dtype is torch.float32 else 1e-2
    for one, other in zip(expected, got, strict=True):
        difference = (one - other).norm() / one.norm()
        require(difference < tolerance, f"a relative difference of {difference:.1e}")


def _repeat(case: Case) -> None:
    model, inputs = on_gpu(case)
    for function in (model, torch.compile(model, fullgraph=True)):
        require_same_bits(function, model, inputs, torch.float32)


if __name__ == "__main__":
    sys.exit(min(1, run(checks(), tuple(sys.argv[1:]))))
