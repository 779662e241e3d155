# SPDX-License-Identifier: Apache-2.0
"""Constants of the models are exact in float64, and come back from the meta device."""

import math

import pytest
import torch

from physicsnemo.models.diffusion import (
    Conv2d,
    PositionalEmbedding,
    SongUNetPosEmbd,
    VEPrecond,
    iDDPMPrecond,
)
from physicsnemo.utils.diffusion._time_steps import iddpm_schedule

SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": []}


def positions():
    return SongUNetPosEmbd([9, 12], 6, 2, **SMALL, resample_filter=[1, 2, 4])


@pytest.fixture(params=["converted", "by default"])
def in_double(request):
    """Return a function that makes a module in float64, one way or the other."""

    def make(build):
        if request.param == "converted":
            return build().double()
        torch.set_default_dtype(torch.float64)
        try:
            return build()
        finally:
            torch.set_default_dtype(torch.float32)

    return make


def test_frequencies(in_double):
    freqs = in_double(lambda: PositionalEmbedding(8, endpoint=True)).freqs
    assert freqs.tolist() == pytest.approx([10000 ** (-k / 3) for k in range(4)], rel=1e-15)


def test_grid(in_double):
    grid = in_double(positions).pos_embd
    angles = [2 * math.pi * x / 11 for x in range(12)]
    assert grid[1, 0].tolist() == pytest.approx([*map(math.sin, angles)], abs=1e-15)


def test_filter(in_double):
    layer = in_double(lambda: Conv2d(1, 1, 0, down=True, resample_filter=[1, 2, 4]))
    expected = [a * b / 49 for a in (1, 2, 4) for b in (1, 2, 4)]
    assert layer.resample_filter.flatten().tolist() == pytest.approx(expected, rel=1e-15)


def test_levels_of_steps(in_double):
    net = in_double(lambda: iDDPMPrecond(8, 2, M=20, model_type="SongUNet", **SMALL))
    assert net.u.tolist() == pytest.approx(iddpm_schedule(20, 0.001, 0.008), rel=1e-15)


def test_what_somebody_put_in_place_of_a_constant_stays():
    model = positions()
    model.pos_embd.copy_(torch.rand_like(model.pos_embd))
    mine = model.pos_embd.clone()
    assert torch.equal(model.double().pos_embd, mine.double())


@pytest.mark.parametrize("on_meta", [True, False])
def test_models_come_back_from_nowhere(on_meta):
    """What ``to_empty`` leaves open is in the state, or made anew."""
    torch.manual_seed(0)
    model = VEPrecond(
        [9, 12], 2, model_type="SongUNetPosEmbd", **SMALL, gridtype="linear", N_grid_channels=2
    )
    with torch.device("meta" if on_meta else "cpu"):
        args = model.model._args["__args__"]
        other = SongUNetPosEmbd(**args).eval()
    other.to_empty(device="cpu")
    state = model.model.state_dict()
    grid = state.pop("pos_embd")
    if on_meta:
        assert torch.equal(other.pos_embd, grid)
    other.pos_embd.copy_(grid)
    other.load_state_dict(state, strict=False)
    x, noise = torch.randn(2, args["in_channels"] - 2, 8, 12), torch.ones(2)
    index = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij"))[None]
    expected = model.model.eval()(x, noise, global_index=index)
    torch.testing.assert_close(other(x, noise, global_index=index), expected, rtol=0, atol=0)
