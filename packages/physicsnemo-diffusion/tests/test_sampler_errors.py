# SPDX-License-Identifier: Apache-2.0
"""Samplers refuse what they cannot use before the net runs, and say what to change."""

import pytest
import torch
from torch import nn

from physicsnemo.utils.diffusion import deterministic_sampler, stochastic_sampler
from physicsnemo.utils.patching import GridPatching2D, RandomPatching2D

LATENTS = torch.zeros(2, 1, 8, 8)


def net(x, img_lr, sigma):
    raise AssertionError("the net should not run")


class Limited(nn.Module):
    sigma_min, sigma_max = 0.01, 1.0

    def forward(self, x, img_lr, sigma):
        return net(x, img_lr, sigma)


BOTH = [
    ({"num_steps": 0}, ValueError, "num_steps to be a whole number of at least 1, got 0"),
    ({"num_steps": 2.5}, ValueError, "num_steps to be a whole number of at least 1, got 2.5"),
    ({"rho": 0.0}, ValueError, "rho to be above 0, got 0.0"),
    ({"sigma_min": 0.0}, ValueError, "0 < sigma_min < sigma_max, got sigma_min=0.0"),
    ({"sigma_min": 3.0, "sigma_max": 2.0}, ValueError, "got sigma_min=3.0 and sigma_max=2.0"),
    (
        {"net": Limited(), "sigma_min": 2.0, "sigma_max": 3.0},
        ValueError,
        "sigma_max=3.0, of which the net's own limits leave 2.0 to 1.0",
    ),
    ({"S_churn": -1.0}, ValueError, "S_churn=-1.0"),
    ({"S_noise": -1.0}, ValueError, "S_noise=-1.0"),
    ({"S_min": 2.0, "S_max": 1.0}, ValueError, "S_min=2.0 and S_max=1.0"),
    ({"S_churn": float("nan")}, ValueError, "S_churn=nan"),
    ({"S_min": "0"}, TypeError, "expected S_min to be a number, got '0'"),
    ({"rho": "7"}, TypeError, "expected rho to be a number, got '7'"),
    ({"rho": float("nan")}, ValueError, "rho to be above 0, got nan"),
    ({"sigma_max": float("inf")}, ValueError, "finite 0 < sigma_min < sigma_max, got"),
    ({"sigma_min": "a"}, TypeError, "expected sigma_min to be a number, got 'a'"),
    ({"num_steps": "3"}, ValueError, "num_steps to be a whole number of at least 1, got '3'"),
    ({"latents": [[0.0]]}, TypeError, "expected latents to be a tensor, got a list"),
    ({"latents": LATENTS.to_sparse()}, TypeError, "expected latents to be a dense tensor"),
    ({"img_lr": [LATENTS]}, TypeError, "expected img_lr to be a tensor, got a list"),
    ({"img_lr": LATENTS + 1j}, TypeError, "img_lr of real numbers, got torch.complex64"),
    ({"class_labels": [1, 2]}, TypeError, "expected class_labels to be a tensor, got a list"),
    ({"class_labels": torch.tensor(1)}, ValueError, r"each of 2 latents, got \(\)"),
    ({"dtype": torch.float16}, ValueError, "dtype to be torch.float32 or torch.float64, got"),
    ({"latents": LATENTS.long()}, TypeError, "latents of floating-point numbers, got torch.int64"),
    ({"latents": torch.zeros(3)}, ValueError, r"\(batch, channels, ...\), got \(3,\)"),
    (
        {"img_lr": torch.zeros(2, 3, 4, 4)},
        ValueError,
        r"img_lr of shape \(2, channels, 8, 8\), as the latents are, got \(2, 3, 4, 4\)",
    ),
    ({"img_lr": torch.zeros(1, 3, 8, 8)}, ValueError, r"got \(1, 3, 8, 8\); resize it, or repeat"),
    (
        {"mean_hr": torch.zeros(3, 1, 8, 8)},
        ValueError,
        r"mean_hr of shape \(1 or 2, channels, 8, 8\), as the latents are, got \(3, 1, 8, 8\)",
    ),
    ({"net": lambda x, sigma: x, "img_lr": LATENTS}, ValueError, "takes no conditioning image"),
    ({"lead_time_label": torch.zeros(2)}, ValueError, "no lead_time_label: its parameters are x"),
    (
        {"class_labels": torch.zeros(2, 1), "lead_time_label": torch.zeros(2)},
        ValueError,
        "no class_labels and no lead_time_label",
    ),
    ({"class_labels": torch.zeros(3, 4)}, ValueError, r"each of 2 latents, got \(3, 4\)"),
    (
        {"patching": RandomPatching2D((8, 8), (4, 4), 2)},
        ValueError,
        "patching to be a GridPatching2D, got a RandomPatching2D",
    ),
    (
        {"patching": GridPatching2D((8, 9), (4, 4))},
        ValueError,
        r"height and width \(8, 9\) of patching, got \(2, 1, 8, 8\)",
    ),
    (
        {"patching": GridPatching2D((8, 8), (4, 4)), "latents": torch.zeros(2, 8, 8)},
        ValueError,
        r"\(8, 8\) of patching, got \(2, 8, 8\)",
    ),
]

DETERMINISTIC = [
    ({"solver": "rk4"}, ValueError, "solver to be one of heun, euler, got 'rk4'"),
    ({"discretization": "ddim"}, ValueError, "one of vp, ve, iddpm, edm, got 'ddim'"),
    ({"schedule": "cosine"}, ValueError, "schedule to be one of vp, ve, linear, got 'cosine'"),
    ({"scaling": "ve"}, ValueError, "scaling to be one of vp, none, got 've'"),
    ({"alpha": 1.5}, ValueError, "alpha to be above 0 and at most 1, got 1.5"),
    ({"epsilon_s": 0.0}, ValueError, "epsilon_s to be above 0 and at most 1, got 0.0"),
    ({"M": 0}, ValueError, "M to be above 0, got 0"),
    ({"beta_d": -1.0}, ValueError, "beta_d to be above 0, got -1.0"),
    ({"epsilon_s": "x"}, TypeError, "expected epsilon_s to be a number, got 'x'"),
    (
        {"schedule": "vp", "sigma_min": 1.0},
        ValueError,
        "no vp schedule rises all the way from sigma_min=1.0 at time epsilon_s=0.001",
    ),
    (
        {"discretization": "iddpm", "sigma_min": 1e6, "sigma_max": 1e7},
        ValueError,
        "none of the 1000 levels of the iddpm discretization",
    ),
]


@pytest.mark.parametrize("sampler", [deterministic_sampler, stochastic_sampler])
@pytest.mark.parametrize(("options", "error", "match"), BOTH)
def test_both_refuse(sampler, options, error, match):
    with pytest.raises(error, match=match):
        sampler(**{"net": net, "latents": LATENTS} | options)


@pytest.mark.parametrize(("options", "error", "match"), DETERMINISTIC)
def test_the_deterministic_one_refuses(options, error, match):
    with pytest.raises(error, match=match):
        deterministic_sampler(net, LATENTS, **options)


@pytest.mark.parametrize("patching", [None, GridPatching2D((8, 8), (4, 4))])
def test_the_net_must_return_the_shape_that_it_got(patching):
    with pytest.raises(ValueError, match=r"the shape of its first argument, \((2|8), 1, .*got"):
        deterministic_sampler(lambda x, sigma: x[:, :, 1:], LATENTS, patching=patching)
