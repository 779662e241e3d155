# SPDX-License-Identifier: Apache-2.0
"""Solvers and guidance of release 2.2: they sample as the methods here do."""

import math
from itertools import pairwise

import pytest
import torch

from physicsnemo.diffusion import EDM, VE, VP, Churn, Euler, Heun, Observed
from physicsnemo.diffusion import sample as sampled
from physicsnemo.diffusion.guidance import (
    DataConsistencyDPSGuidance,
    DPSScorePredictor,
    ModelConsistencyDPSGuidance,
)
from physicsnemo.diffusion.noise_schedulers import (
    EDMNoiseScheduler,
    VENoiseScheduler,
    VPNoiseScheduler,
)
from physicsnemo.diffusion.samplers import (
    EDMStochasticHeunSolver,
    EulerSolver,
    HeunSolver,
    Solver,
    sample,
)

STD = 0.5
PAIRS = [(EDMNoiseScheduler(), EDM()), (VENoiseScheduler(), VE())]
PAIRS.append((VPNoiseScheduler(beta_d=19.9), VP()))
each_pair = pytest.mark.parametrize(
    ("scheduler", "schedule"), PAIRS, ids=lambda it: type(it).__name__
)
NOISE = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
MEAN = torch.tensor([0.3, -0.5, 0.0], dtype=torch.float64)


class Prior(torch.nn.Module):
    """Estimate of independent normal data."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, t, condition=None):
        level = self.schedule.level(t)[:, None]
        away = x / self.schedule.alpha(t)[:, None] - MEAN
        return MEAN + away * STD**2 / (STD**2 + level**2)


def latents(scheduler, steps=6):
    first = scheduler.timesteps(steps, dtype=torch.float64)[0]
    return NOISE * scheduler.sigma(first)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@each_pair
@pytest.mark.parametrize(
    ("solver", "options", "method"),
    [
        ("euler", {}, Euler()),
        ("heun", {}, Heun()),
        ("heun", {"alpha": 0.7}, Heun(0.7)),
        ("edm_stochastic_euler", {"S_churn": 3.0, "S_noise": 1.1}, Churn(Euler(), 3.0, noise=1.1)),
        ("edm_stochastic_heun", {"S_churn": 3.0, "S_min": 0.1}, Churn(Heun(), 3.0, 0.1)),
    ],
)
def test_solvers_are_the_methods(scheduler, schedule, solver, options, method):
    """The number of steps, and the levels of any schedule, are known without being told."""
    prior = Prior(schedule)
    denoiser = scheduler.get_denoiser(x0_predictor=prior)
    torch.manual_seed(3)
    found = sample(denoiser, latents(scheduler), scheduler, 6, solver, solver_options=options)
    torch.manual_seed(3)
    close(found, sampled(prior, NOISE, steps=6, method=method))


def test_levels_of_denoisers_of_ones_own():
    prior = Prior(VE())

    def denoiser(x, t):
        return (x - prior(x, t)) / (2 * t[:, None])

    scheduler = VENoiseScheduler()
    levels = {"sigma_fn": scheduler.sigma, "sigma_inv_fn": scheduler.sigma_inv}
    solver = EDMStochasticHeunSolver(denoiser, S_churn=3.0, num_steps=6, **levels)
    torch.manual_seed(3)
    found = sample(None, latents(scheduler), scheduler, 6, solver)
    torch.manual_seed(3)
    close(found, sampled(prior, NOISE, steps=6, method=Churn(Heun(), 3.0)))
    with pytest.raises(ValueError, match="got one"):
        EDMStochasticHeunSolver(denoiser, sigma_fn=scheduler.sigma)


def test_a_solver_of_ones_own():
    scheduler = EDMNoiseScheduler()

    class Maruyama:
        """Euler's and Maruyama's method, without its noise."""

        def __init__(self, denoiser):
            self.denoiser = denoiser

        def step(self, x, t_cur, t_next):
            return x + (t_next - t_cur)[:, None] * self.denoiser(x, t_cur)

    own = Maruyama(scheduler.get_denoiser(x0_predictor=Prior(EDM())))
    assert isinstance(own, Solver)
    found = sample(own.denoiser, latents(scheduler), scheduler, 6, own)
    close(found, sampled(Prior(EDM()), NOISE, steps=6, method="euler"))
    with pytest.raises(ValueError, match="by name alone, got alpha"):
        sample(own.denoiser, latents(scheduler), scheduler, 6, own, solver_options={"alpha": 1})


def test_steps_by_hand_and_states_on_the_way():
    scheduler = EDMNoiseScheduler()
    denoiser = scheduler.get_denoiser(x0_predictor=Prior(EDM()))
    x = latents(scheduler)
    times = scheduler.timesteps(3, dtype=torch.float64)
    states = []
    for solver in (HeunSolver(denoiser), EulerSolver(denoiser)):
        state = x
        for t, t_next in pairwise(times):
            state = solver.step(state, t.expand(5), t_next.expand(5))
        states.append(state)
    close(states[0], sample(denoiser, x, scheduler, 3))
    seen = sample(denoiser, x, scheduler, 99, "euler", time_steps=times, time_eval=[2, 0])
    assert len(seen) == 2
    close(seen[1], states[1])
    close(seen[0], x + (times[1] - times[0]) * denoiser(x, times[0].expand(5)))
    with pytest.raises(ValueError, match="have one time"):
        solver.step(x, times[:1].repeat(5), torch.arange(5.0))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"solver": "rk4"}, "edm_stochastic_heun"),
        ({"time_eval": [3]}, r"range\(3\)"),
        ({"time_steps": [1.0, 2.0]}, "decreasing"),
        ({"solver_options": {"alpha": 0.0}}, "alpha"),
    ],
)
def test_options_that_are_refused(options, text):
    scheduler = EDMNoiseScheduler()
    denoiser = scheduler.get_denoiser(x0_predictor=Prior(EDM()))
    with pytest.raises(ValueError, match=text):
        sample(denoiser, latents(scheduler), scheduler, 3, **options)


def test_samples_are_differentiable():
    scheduler = EDMNoiseScheduler()
    denoiser = scheduler.get_denoiser(x0_predictor=Prior(EDM()))
    x = latents(scheduler).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sample(denoiser, x, scheduler, 3), x)


ROWS = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
Y = torch.tensor([[1.2, -1.0]], dtype=torch.float64)


def cauchy(seen, y):
    return (1 + (seen - y).square()).log()


MASK = torch.tensor([[True, False, True]])
SEEN = torch.tensor([[0.7, math.nan, -0.4]], dtype=torch.float64)


@each_pair
@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("norm", [2, 1, cauchy], ids=["squares", "sizes", "cauchy"])
def test_guidance_is_that_of_energies(scheduler, schedule, gamma, norm):
    """Of several energies one gradient is taken, and what is not observed may be NaN."""
    functions = {"gamma": gamma, "sigma_fn": scheduler.sigma, "alpha_fn": scheduler.alpha}
    guidances = [
        ModelConsistencyDPSGuidance(lambda x0: x0 @ ROWS.T, Y, 3.0, norm, **functions),
        DataConsistencyDPSGuidance(MASK, SEEN, torch.tensor(2.0), norm, **functions),
    ]
    predictor = DPSScorePredictor(Prior(schedule), scheduler.x0_to_score, guidances)
    denoiser = scheduler.get_denoiser(score_predictor=predictor)
    with torch.no_grad():
        found = sample(denoiser, latents(scheduler), scheduler, 6)
    energies = [
        Observed(Y, 3.0, lambda x0: x0 @ ROWS.T, gamma=gamma, p=norm),
        Observed(SEEN, 2.0, mask=MASK, gamma=gamma, p=norm),
    ]
    with torch.no_grad():
        close(found, sampled(Prior(schedule), NOISE, steps=6, guidance=energies))
    assert torch.isfinite(found).all()


def test_guidance_of_ones_own_beside():
    scheduler, t = EDMNoiseScheduler(), torch.full((5,), 2.0, dtype=torch.float64)
    prior = Prior(EDM())
    known = DataConsistencyDPSGuidance(MASK, SEEN, 1.0)

    def pull(x, t, x_0):  # takes a gradient of its own
        return -torch.autograd.grad(x_0.square().sum(), x)[0]

    def plain(x, t, x_0):
        return 0 * x + 1

    score = {
        name: DPSScorePredictor(prior, scheduler.x0_to_score, guidances)(NOISE, t)
        for name, guidances in {
            "all": [pull, plain, known],
            "pull": pull,
            "known": known,
            "none": [],
        }.items()
    }
    close(score["none"], scheduler.x0_to_score(prior(NOISE, t), NOISE, t))
    close(score["all"], score["pull"] + score["known"] - score["none"] + 1)
    x = NOISE.clone().requires_grad_()
    close(known(x, t, prior(x, t)), score["known"] - score["none"])


def test_a_guided_score_is_differentiable():
    scheduler, t = EDMNoiseScheduler(), torch.full((5,), 2.0, dtype=torch.float64)
    known = DataConsistencyDPSGuidance(MASK, SEEN, 1.0, norm=4)
    predictor = DPSScorePredictor(Prior(EDM()), scheduler.x0_to_score, known)
    assert torch.autograd.gradcheck(lambda x: predictor(x, t), NOISE.clone().requires_grad_())


def test_guidance_that_is_refused():
    with pytest.raises(ValueError, match="scheduler.sigma"):
        DataConsistencyDPSGuidance(MASK, SEEN, 1.0, gamma=0.1)
    known = DataConsistencyDPSGuidance(MASK, SEEN, 1.0)
    predictor = DPSScorePredictor(Prior(EDM()), EDMNoiseScheduler().x0_to_score, known)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="no_grad"):
        predictor(NOISE, torch.ones(5))
