# SPDX-License-Identifier: Apache-2.0
"""Samplers that turn noise into samples of a diffusion model, and noise with a seed per sample."""

from physicsnemo.utils.diffusion._random import StackedRandomGenerator
from physicsnemo.utils.diffusion.deterministic_sampler import deterministic_sampler
from physicsnemo.utils.diffusion.stochastic_sampler import stochastic_sampler

__all__ = ["StackedRandomGenerator", "deterministic_sampler", "stochastic_sampler"]
