# SPDX-License-Identifier: Apache-2.0
"""Samplers of diffusion models, and random numbers with a seed for each sample.

The deterministic sampler solves the probability-flow differential equation by Euler's or Heun's
method; the stochastic one adds noise before each step of Heun's (Karras et al. 2022,
arXiv:2206.00364, algorithms 1 and 2).
"""

from physicsnemo.utils.diffusion._random import StackedRandomGenerator
from physicsnemo.utils.diffusion.deterministic_sampler import deterministic_sampler
from physicsnemo.utils.diffusion.stochastic_sampler import stochastic_sampler

__all__ = ["StackedRandomGenerator", "deterministic_sampler", "stochastic_sampler"]
