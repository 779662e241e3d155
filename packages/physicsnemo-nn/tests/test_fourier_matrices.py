# SPDX-License-Identifier: Apache-2.0
"""The constants of transforms are made once, wherever they are first asked for, and serve all."""

import math
import threading
from fractions import Fraction

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from physicsnemo.nn.fourier import matrices, to_field, to_modes, transforms

FREQUENCIES = [(0, 1, -2, -1), (0, 1, 2)]


@pytest.fixture(autouse=True)
def _no_constants_yet(monkeypatch):
    monkeypatch.setattr(transforms, "prefer_matmul", lambda *_: True)
    matrices._CACHE.clear()
    torch.compiler.reset()


def filtered(x):
    return to_field(to_modes(x, FREQUENCIES), x.shape[1:-1], FREQUENCIES)


def field(**options):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 5, 3, generator=generator, dtype=torch.float64)
    return x.to(**options) if options else x


def in_inference_mode():
    with torch.inference_mode():
        filtered(field())


def without_gradients():
    with torch.no_grad():
        filtered(field())


def with_fake_tensors():
    with FakeTensorMode() as mode:
        filtered(mode.from_tensor(field()))


def while_compiling_with_fake_tensors():
    with FakeTensorMode() as mode:
        compiled = torch.compile(filtered, fullgraph=True, backend="aot_eager")
        output = compiled(mode.from_tensor(field()))
    assert isinstance(output, FakeTensor)
    assert output.shape == field().shape


def while_compiling_for_real_and_fake_tensors():
    compiled = torch.compile(filtered, fullgraph=True, backend="aot_eager")
    compiled(field())
    with FakeTensorMode() as mode:
        assert isinstance(compiled(mode.from_tensor(field())), FakeTensor)
    torch.testing.assert_close(compiled(field()), filtered(field()))


def while_exporting_with_fake_tensors():
    with FakeTensorMode() as mode:
        program = torch.export.export(Filtered(), (mode.from_tensor(field()),))
    torch.testing.assert_close(program.module()(field()), filtered(field()))


def while_counting():
    with FlopCounterMode(display=False):
        filtered(field())


def on_the_meta_device():
    with torch.device("meta"):
        filtered(torch.empty(2, 6, 5, 3, dtype=torch.float64))
        filtered(field())


def under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        filtered(field(dtype=torch.float32))
        filtered(field())


def in_a_gradient_transform():
    torch.func.grad(lambda x: filtered(x).sum())(field())


def in_a_forward_derivative():
    torch.func.jvp(filtered, (field(),), (field(),))


def in_a_vectorized_map():
    torch.func.vmap(lambda x: filtered(x[None]))(field())


def in_a_hessian():
    torch.func.hessian(lambda x: filtered(x).square().sum())(field()[:1, ..., :1])


def while_compiling():
    torch.compile(filtered, fullgraph=True, backend="aot_eager")(field())


def while_tracing():
    torch.jit.trace(filtered, field(), check_trace=False)


class Filtered(torch.nn.Module):
    forward = staticmethod(filtered)


def while_exporting():
    torch.export.export(Filtered(), (field(),))


def while_making_a_graph():
    torch.fx.experimental.proxy_tensor.make_fx(filtered)(field())


def in_a_checkpoint():
    x = field().requires_grad_()
    torch.utils.checkpoint.checkpoint(filtered, x, use_reentrant=False).sum().backward()


def in_another_thread():
    thread = threading.Thread(target=filtered, args=(field(),))
    thread.start()
    thread.join()


PLACES = [
    in_inference_mode,
    without_gradients,
    with_fake_tensors,
    while_compiling_with_fake_tensors,
    while_compiling_for_real_and_fake_tensors,
    while_exporting_with_fake_tensors,
    while_counting,
    on_the_meta_device,
    under_autocast,
    in_a_gradient_transform,
    in_a_forward_derivative,
    in_a_vectorized_map,
    in_a_hessian,
    while_compiling,
    while_tracing,
    while_exporting,
    while_making_a_graph,
    in_a_checkpoint,
    in_another_thread,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_whatever_comes_first_training_follows(place):
    expected = torch.autograd.functional.jacobian(filtered, field()[:1])
    matrices._CACHE.clear()
    place()
    x = field().requires_grad_()
    output = filtered(x)
    (gradient,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert type(output) is torch.Tensor
    assert x.grad.isfinite().all()
    jacobian = torch.autograd.functional.jacobian(filtered, field()[:1])
    torch.testing.assert_close(jacobian, expected, atol=0, rtol=0)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_whatever_follows_training(place):
    filtered(field())
    place()


def test_each_is_made_once():
    filtered(field())
    made = dict(matrices._CACHE)
    assert len(made) == 4  # two axes, there and back
    filtered(field())
    assert all(matrices._CACHE[key] is matrix for key, matrix in made.items())
    assert len(matrices._CACHE) == 4
    filtered(field(dtype=torch.float32))
    assert len(matrices._CACHE) == 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_many_turns_cost_no_digits(dtype):
    n, k = 4096, 2047
    matrix = matrices.dft_matrix(matrices.rdft, n, (k,), 1.0, field(dtype=dtype))
    cosine, sine = matrix
    for j in (1, 1000, 4095):
        turns = Fraction(j * k, n) % 1
        exact = torch.tensor(2 * math.pi * float(turns), dtype=torch.float64)
        torch.testing.assert_close(cosine[j], exact.cos().to(dtype), atol=1e-15, rtol=0)
        torch.testing.assert_close(sine[j], -exact.sin().to(dtype), atol=1e-15, rtol=0)


@pytest.mark.parametrize(("dtype", "width"), [(torch.float16, 96), (torch.float32, 92)])
def test_rows_of_aligned_matrices_start_at_multiples_of_16_bytes(dtype, width):
    matrix = torch.arange(90.0 * 3, dtype=dtype).view(3, 90)
    aligned = matrices._aligned(matrix)
    torch.testing.assert_close(aligned, matrix, atol=0, rtol=0)
    assert aligned.stride() == (width, 1)
