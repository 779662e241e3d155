# SPDX-License-Identifier: Apache-2.0
"""Schedules: their factors, times and training times, and what is saved of them."""

import json
import math

import pytest
import torch

from physicsnemo.diffusion import EDM, IDDPM, VE, VP, Schedule
from physicsnemo.models.diffusion import iDDPMPrecond
from physicsnemo.utils.diffusion import StackedRandomGenerator
from physicsnemo.utils.diffusion._time_steps import iddpm_schedule

SCHEDULES = [EDM(), EDM(levels="log-uniform"), EDM(nu=5.0), VE(), VP(), IDDPM(M=100)]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
NORMAL = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@each_schedule
def test_json_holds_a_schedule(schedule):
    record = json.loads(json.dumps(schedule.record()))
    assert Schedule.restore(record) == schedule


@each_schedule
def test_tensors_and_numbers_agree(schedule):
    t = torch.tensor(schedule.times(7)[:-1], dtype=torch.float64)
    flow = schedule.flow
    for name, number in {"level": flow.schedule.sigma, "alpha": flow.s}.items():
        expected = torch.tensor([number(time) for time in t.tolist()], dtype=torch.float64)
        torch.testing.assert_close(getattr(schedule, name)(t), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.sigma(t), schedule.alpha(t) * schedule.level(t))


@each_schedule
def test_times_decrease_to_zero(schedule):
    for steps in (1, 2, 9):
        times = schedule.times(steps)
        assert len(times) == steps + 1
        assert times[-1] == 0
        assert all(math.isfinite(time) for time in times)
        assert times == sorted(times, reverse=True)
    with pytest.raises(ValueError, match="at least 1"):
        schedule.times(0)


def test_variance_preserving_times_and_factors():
    schedule = VP(beta_min=0.1, beta_d=19.9, epsilon=0.01)
    torch.testing.assert_close(schedule.times(3), [1.0, 0.505, 0.01, 0.0])
    t = torch.tensor([0.3, 1.0], dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha, (-0.25 * 19.9 * t**2 - 0.05 * t).exp())
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))


def test_training_times():
    torch.testing.assert_close(EDM(P_mean=0.5).draw(NORMAL).log(), 0.5 + 1.2 * NORMAL)
    share = torch.special.ndtr(NORMAL)
    uniform = EDM(levels="log-uniform").draw(NORMAL).log()
    torch.testing.assert_close(uniform, math.log(0.002) + share * math.log(80 / 0.002))
    levels = VE().level(VE().draw(NORMAL)).log()
    torch.testing.assert_close(levels, math.log(0.02) + share * math.log(100 / 0.02))
    torch.testing.assert_close(VP(epsilon=0.2).draw(NORMAL), 0.2 + 0.8 * share)


def test_levels_of_improved_ddpm():
    schedule = IDDPM(M=100)
    options = {"model_channels": 8, "channel_mult": [1], "num_blocks": 1, "model_type": "SongUNet"}
    levels = iDDPMPrecond(8, 1, M=100, **options).u.double()
    inside = levels[(levels >= 0.002) & (levels <= 81)]
    exact = torch.tensor(iddpm_schedule(100, 0.001, 0.008), dtype=torch.float64)
    torch.testing.assert_close(schedule.all_levels(exact), exact[:-1], rtol=1e-11, atol=0)
    drawn = schedule.draw(NORMAL)
    torch.testing.assert_close(drawn.unique(), inside.sort().values.double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(schedule.label(levels[:-1]), 99.0 - torch.arange(100).double())


def test_heavy_tailed_noise():
    schedule = EDM(nu=5.0)
    like = torch.empty(0, dtype=torch.float64)
    for generator in (torch.Generator().manual_seed(0), StackedRandomGenerator("cpu", range(4000))):
        noise = schedule.noise((4000, 4), like, generator)
        radius = noise.square().sum(dim=1)
        # Of a t distribution, the square of the radius over the dimension has Fisher's.
        assert abs(noise.var() / schedule.spread**2 - 1) < 0.15
        below = (radius / 4 < 0.96456).double().mean()  # the median of F(4, 5)
        assert abs(below - 0.5) < 4 * 0.5 / math.sqrt(4000)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: EDM(nu=2.0), "nu above 2"),
        (lambda: EDM(levels="uniform"), "log-uniform"),
        (lambda: EDM(sigma_min=2.0, sigma_max=1.0), "sigma_min < sigma_max"),
        (lambda: EDM(P_std=-1.0), "P_std of at least 0"),
        (lambda: VE(sigma_min=0.0), "above 0"),
        (lambda: VP(epsilon=1.0), "epsilon below t_max"),
        (lambda: IDDPM(sigma_min=1e6, sigma_max=1e7), "none of the 1000 levels"),
        (lambda: Schedule.restore({"name": "DDPM"}), "IDDPM"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()
