# SPDX-License-Identifier: Apache-2.0
"""SFNO computes what the example operator of torch-harmonics does, where both have the options."""

import pytest
import torch
from torch_harmonics.examples.models import SphericalFourierNeuralOperator

from physicsnemo.models.sfno import SFNO

# Theirs does not resample its skip between grids that have one shape and different types.
OPTIONS = [
    pytest.param("equiangular", "legendre-gauss", 2, False, id="coarser"),
    pytest.param("equiangular", "legendre-gauss", 2, True, id="coarser-skip"),
    pytest.param("equiangular", "equiangular", 4, True, id="coarse-skip"),
    pytest.param("legendre-gauss", "legendre-gauss", 1, True, id="one-grid-skip"),
    pytest.param("legendre-gauss", "lobatto", 2, False, id="lobatto"),
]
SHAPE = [33, 64]


def theirs(grid, internal, scale_factor, skip):
    model = SphericalFourierNeuralOperator(
        img_size=tuple(SHAPE),
        grid=grid,
        grid_internal=internal,
        scale_factor=scale_factor,
        in_chans=3,
        out_chans=3,
        embed_dim=8,
        num_layers=3,
        residual_prediction=skip,
    )
    # Theirs starts with outputs of several hundred; like this, float32 has digits to compare.
    with torch.no_grad():
        for block in model.blocks:
            block.global_conv.weight.mul_(0.3)
    return model


def ours(model, grid, internal, scale_factor, skip):
    """Return an SFNO of the same weights."""
    twin = SFNO(
        SHAPE,
        SHAPE,
        inp_chans=3,
        out_chans=3,
        embed_dim=8,
        num_layers=3,
        scale_factor=scale_factor,
        model_grid_type=grid,
        sht_grid_type=internal,
        max_modes=[model.trans.lmax, model.trans.mmax],
        normalization_layer="none",
        big_skip=skip,
    )
    state = {name: torch.zeros_like(tensor) for name, tensor in twin.state_dict().items()}
    state["encoder.0.weight"] = model.encoder[0].weight
    state["decoder.0.weight"] = model.decoder[0].weight
    if skip:
        state["big_skip.0.weight"] = torch.eye(3)[..., None, None]
    for number, block in enumerate(model.blocks):
        weight = torch.view_as_real(block.global_conv.weight)  # output, input, degree, part
        state[f"blocks.{number}.filter.weight"] = weight.transpose(0, 1)
        first, _, last = block.mlp.fwd
        state[f"blocks.{number}.mlp.0.weight"] = first.weight
        state[f"blocks.{number}.mlp.0.bias"] = first.bias
        state[f"blocks.{number}.mlp.3.weight"] = last.weight
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize(("grid", "internal", "scale_factor", "skip"), OPTIONS)
def test_outputs_and_gradients(grid, internal, scale_factor, skip):
    torch.manual_seed(0)
    reference = theirs(grid, internal, scale_factor, skip)
    model = ours(reference, grid, internal, scale_factor, skip)
    x = torch.randn(2, 3, *SHAPE)
    results = []
    for operator in (reference, model):
        start = x.clone().requires_grad_()
        output = operator(start)
        output.square().mean().backward()
        results.append((output.detach(), start.grad, operator.encoder[0].weight.grad))
    for expected, got in zip(*results, strict=True):
        assert (got - expected).norm() < 1e-5 * expected.norm()
