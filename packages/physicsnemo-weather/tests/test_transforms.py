# SPDX-License-Identifier: Apache-2.0
"""Derivatives in every mode agree with reverse mode, and activations may be computed again."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from physicsnemo.models.dlwp._cubed_sphere import around_cube
from physicsnemo.models.dlwp_healpix_layers._neighbors import around_healpix
from physicsnemo.models.face_layers import pad_faces
from physicsnemo.models.swinvrnn.swinvrnn import ConvBlock
from physicsnemo.models.window_layers import SwinTransformer, earth_blocks

CASES = {
    f"{case.model} {case.id}": case
    for case in runpy.run_path(str(Path(__file__).with_name("cases.py")))["CASES"]
}
FACES = ("DLWP shallow", "HEALPixUNet double_without_constants", "HEALPixRecUNet recurrent")


def channels_first(block):
    """Return a function of channels that are last in memory only."""
    return lambda x: block(x.movedim(-1, 1))


LAYERS = {
    "cube": (lambda: lambda x: pad_faces(x, 1, around_cube), (1, 6, 2, 2, 1)),
    "healpix": (lambda: lambda x: pad_faces(x, 1, around_healpix), (1, 12, 2, 2, 1)),
    "earth": (lambda: earth_blocks(4, (2, 3, 4), 2, (2, 2, 2), [0.0, 0.0])[1], (1, 2, 3, 4, 4)),
    "swin": (lambda: SwinTransformer(4, (3, 4), 2, 2, 2), (1, 3, 4, 4)),
    "finer": (lambda: channels_first(ConvBlock(4, 4, 2, upsample=1).double()), (1, 2, 3, 4)),
    "coarser": (lambda: channels_first(ConvBlock(4, 4, 2, upsample=-1).double()), (1, 3, 3, 4)),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    """A layer without random numbers in double precision, and an input."""
    torch.manual_seed(0)
    build, shape = LAYERS[request.param]
    function = build()
    if isinstance(function, torch.nn.Module):
        function = function.double().eval()
    return function, torch.randn(shape, dtype=torch.float64)


def flat(model, inputs):
    """Return a function of tensors to one vector, and the tensors in double precision."""
    leaves, spec = pytree.tree_flatten(inputs)

    def function(*leaves):
        output = model(*pytree.tree_unflatten(list(leaves), spec))
        return torch.cat([part.flatten() for part in pytree.tree_leaves(output)])

    return function, [leaf.double() for leaf in leaves]


def test_jacobians(layer):
    function, x = layer
    expected = torch.func.jacrev(function)(x)
    torch.testing.assert_close(torch.func.jacfwd(function)(x), expected)
    direction = torch.randn_like(x)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(x, direction))).tangent
    torch.testing.assert_close(tangent, torch.func.jvp(function, (x,), (direction,))[1])
    product = expected.flatten(-x.ndim) @ direction.flatten()
    torch.testing.assert_close(tangent, product.view_as(tangent))


def test_second_derivatives(layer):
    function, x = layer
    direction = torch.randn_like(x)

    def loss(x):
        return function(x).pow(3).sum()

    _, forward = torch.func.jvp(torch.func.grad(loss), (x,), (direction,))
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(y), y, create_graph=True)
    (reverse,) = torch.autograd.grad((gradient * direction).sum(), y)
    torch.testing.assert_close(forward, reverse)


def test_samples_by_vmap(layer):
    function, x = layer
    samples = torch.stack((x, x + 1))
    expected = torch.stack([function(sample) for sample in samples])
    torch.testing.assert_close(torch.func.vmap(function)(samples), expected)


@pytest.mark.parametrize("name", FACES)
def test_models_on_faces_in_forward_mode(name):
    torch.manual_seed(0)
    function, inputs = flat(CASES[name].build().double().eval(), CASES[name].inputs())
    directions = [torch.randn_like(x) for x in inputs]
    y, tangent = torch.func.jvp(function, tuple(inputs), tuple(directions))
    covector = torch.randn_like(y)
    gradients = torch.func.vjp(function, *inputs)[1](covector)
    expected = sum((a * b).sum() for a, b in zip(gradients, directions, strict=True))
    torch.testing.assert_close((tangent * covector).sum(), expected)


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activations_may_be_computed_again(name, use_reentrant):
    torch.manual_seed(0)
    model = CASES[name].build().double()
    function, inputs = flat(model, CASES[name].inputs())
    inputs = [x.requires_grad_() for x in inputs]
    wanted = [*inputs, *model.parameters()]
    gradients = []
    for y in (function(*inputs), checkpoint(function, *inputs, use_reentrant=use_reentrant)):
        for x in wanted:
            x.grad = None
        y.square().sum().backward()
        gradients.append([x.grad for x in wanted])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
