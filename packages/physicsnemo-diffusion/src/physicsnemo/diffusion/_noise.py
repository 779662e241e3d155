# SPDX-License-Identifier: Apache-2.0
"""Noise from one generator, or from one for each sample."""

from collections.abc import Sequence

import torch
from torch import Tensor

from physicsnemo.utils.diffusion import StackedRandomGenerator

Generator = torch.Generator | StackedRandomGenerator | None


def draw_normal(shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
    """Draw standard normal numbers of a shape, of the type and on the device of a tensor."""
    if isinstance(generator, StackedRandomGenerator):
        return generator.randn(shape, dtype=like.dtype, device=like.device)
    device = like.device if generator is None else generator.device
    drawn = torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=device)
    return drawn.to(like.device)


def draw_student(nu: float, shape: Sequence[int], like: Tensor, generator: Generator) -> Tensor:
    """Draw from Student's t distribution, each sample as one vector.

    All numbers of a sample are divided by the root of the same chi-squared number over ``nu``.
    """
    if isinstance(generator, StackedRandomGenerator):
        return generator.randt(nu, shape, dtype=like.dtype, device=like.device)
    device = like.device if generator is None else generator.device
    half = torch.full((shape[0],), nu / 2, dtype=like.dtype, device=device)
    mean_square = torch._standard_gamma(half, generator=generator) / half
    of_samples = mean_square.sqrt().to(like.device).reshape(-1, *[1] * (len(shape) - 1))
    return draw_normal(shape, like, generator) / of_samples
