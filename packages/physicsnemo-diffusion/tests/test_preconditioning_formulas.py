# SPDX-License-Identifier: Apache-2.0
"""The functions of the noise level are those of Karras et al. 2022, table 1, in float64."""

import math
from decimal import Decimal, localcontext

import pytest
import torch

from physicsnemo.models.diffusion import (
    EDMPrecond,
    VEPrecond,
    VEPrecond_dfsr,
    VPPrecond,
    iDDPMPrecond,
)
from physicsnemo.utils.diffusion._time_steps import alpha_bar, iddpm_schedule

LEVELS = [0.002, 0.02, 0.3, 0.5, 1.0, 7.0, 80.0, 152.0]
SIGMA = torch.tensor(LEVELS, dtype=torch.float64)
BETA_D, BETA_MIN, DATA = 19.9, 0.1, 0.5


def exact_time(sigma: float) -> float:
    """Return the time of a noise level in exact arithmetic, but for the last digits of 50."""
    with localcontext() as context:
        context.prec = 50
        level, beta_d, beta_min = Decimal(sigma), Decimal(BETA_D), Decimal(BETA_MIN)
        root = (beta_min**2 + 2 * beta_d * (1 + level**2).ln()).sqrt()
        return float((root - beta_min) / beta_d)


def exact_sigma(time: float) -> float:
    with localcontext() as context:
        context.prec = 50
        power = Decimal(BETA_D) * Decimal(time) ** 2 / 2 + Decimal(BETA_MIN) * Decimal(time)
        return float((power.exp() - 1).sqrt())


def nearest_step(sigma: float) -> int:
    """Return the number of the step, from the last one's 0, whose level is nearest."""
    levels = iddpm_schedule(1000, 0.001, 0.008)
    return 999 - min(range(1001), key=lambda j: abs(levels[j] - sigma))


SMALL = {"model_channels": 8, "channel_mult": [1, 1], "num_blocks": 1, "attn_resolutions": []}
NETS = {
    model_class: model_class(8, 2, model_type="SongUNet", **SMALL)
    for model_class in (VPPrecond, VEPrecond, iDDPMPrecond, EDMPrecond, VEPrecond_dfsr)
}
TABLE = {
    "vp": (
        NETS[VPPrecond].scalings(SIGMA),
        lambda s: (1, -s, 1 / math.sqrt(s**2 + 1), 999 * exact_time(s)),
    ),
    "ve": (NETS[VEPrecond].scalings(SIGMA), lambda s: (1, s, 1, math.log(s / 2))),
    "iddpm": (
        NETS[iDDPMPrecond].scalings(SIGMA),
        lambda s: (1, -s, 1 / math.sqrt(s**2 + 1), nearest_step(s)),
    ),
    "edm": (
        NETS[EDMPrecond].scalings(SIGMA),
        lambda s: (
            DATA**2 / (s**2 + DATA**2),
            s * DATA / math.sqrt(DATA**2 + s**2),
            1 / math.sqrt(DATA**2 + s**2),
            math.log(s) / 4,
        ),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_1(name):
    scalings, row = TABLE[name]
    expected = torch.tensor([row(level) for level in LEVELS], dtype=torch.float64).T
    torch.testing.assert_close(torch.stack(scalings), expected, rtol=1e-13, atol=1e-14)


def test_no_scaling():
    c_skip, c_out, c_in, c_noise = NETS[VEPrecond_dfsr].scalings(SIGMA)
    assert not c_skip.any()
    assert (c_out == 1).all()
    assert (c_in == 1).all()
    assert torch.equal(c_noise, SIGMA)


@pytest.mark.parametrize("name", TABLE)
def test_target_of_training_has_unit_variance(name):
    """Of clean fields y and noise n, the ideal output is (y - c_skip (y + n)) / c_out."""
    scalings, _ = TABLE[name]
    data = torch.tensor(DATA, dtype=torch.float64)
    share_of_data = (1 - scalings.c_skip) * data / scalings.c_out
    share_of_noise = scalings.c_skip * SIGMA / scalings.c_out
    variance = share_of_data**2 + share_of_noise**2
    torch.testing.assert_close(variance, torch.ones_like(SIGMA), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("name", "data"), [("edm", DATA), ("vp", 1.0), ("iddpm", 1.0)])
def test_input_of_the_network_has_unit_variance(name, data):
    variance = TABLE[name][0].c_in ** 2 * (data**2 + SIGMA**2)
    torch.testing.assert_close(variance, torch.ones_like(SIGMA), rtol=1e-13, atol=0)


def test_edm_amplifies_errors_least():
    """At unit variance of the target, no other c_skip has a smaller c_out (appendix B.6)."""
    edm = NETS[EDMPrecond].scalings(SIGMA)
    for other in (edm.c_skip - 1e-3, edm.c_skip + 1e-3):
        amplified = ((1 - other) * DATA) ** 2 + (other * SIGMA) ** 2
        assert (amplified > edm.c_out**2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("time", [1e-7, 1e-5, 1e-3, 0.1, 1.0])
def test_vp_loses_nothing_at_early_times(time, dtype):
    level, tolerance = exact_sigma(time), 16 * torch.finfo(dtype).eps
    sigma = NETS[VPPrecond].sigma(torch.tensor(time, dtype=dtype))
    assert sigma.item() == pytest.approx(level, rel=tolerance)
    back = NETS[VPPrecond].sigma_inv(torch.tensor(level, dtype=dtype))
    assert back.item() == pytest.approx(time, rel=tolerance)


def test_iddpm_levels():
    """The recursion of table 1, checked through the shares of signal and noise that it means."""
    steps, c_1, c_2 = 1000, 0.001, 0.008
    levels = iddpm_schedule(steps, c_1, c_2)
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    assert levels == sorted(levels, reverse=True)
    assert alpha_bar(steps, steps, 0.0) == 1
    for step in (3, 10, 500, 999):  # where C_1 does not act, 1 + sigma^2 is 1 / alpha_bar
        shares = [alpha_bar(at, steps, c_2) for at in (step, steps)]
        assert 1 + levels[step] ** 2 == pytest.approx(shares[1] / shares[0], rel=1e-10)
    assert 1 + levels[0] ** 2 == pytest.approx((1 + levels[1] ** 2) / c_1, rel=1e-12)


def test_iddpm_without_steps():
    with pytest.raises(ValueError, match="at least one step, got M=0"):
        iddpm_schedule(0, 0.001, 0.008)
