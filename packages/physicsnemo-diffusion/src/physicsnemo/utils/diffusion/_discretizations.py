# SPDX-License-Identifier: Apache-2.0
"""The noise levels that a sampler visits: Karras et al. (2022), Table 1, "time steps"."""

import math
from typing import Literal

from physicsnemo.utils.diffusion._schedules import VariancePreserving

Discretization = Literal["vp", "ve", "iddpm", "edm"]


def default_range(
    discretization: Discretization, vp: VariancePreserving, epsilon_s: float
) -> tuple[float, float]:
    """Return the lowest and the highest noise level that come with a discretization.

    Those of ``"vp"`` are the levels of a schedule at the times ``epsilon_s`` and 1.
    """
    ranges = {
        "vp": (vp.sigma(epsilon_s), vp.sigma(1.0)),
        "ve": (0.02, 100.0),
        "iddpm": (0.002, 81.0),
        "edm": (0.002, 80.0),
    }
    return ranges[discretization]


def vp_levels(num_steps: int, sigma_min: float, sigma_max: float, epsilon_s: float) -> list[float]:
    """Return levels at even times of a variance-preserving schedule."""
    schedule = VariancePreserving.between(sigma_min, sigma_max, epsilon_s)
    return [schedule.sigma(1 + f * (epsilon_s - 1)) for f in _fractions(num_steps)]


def ve_levels(num_steps: int, sigma_min: float, sigma_max: float) -> list[float]:
    """Return levels in geometric progression."""
    return [sigma_max * (sigma_min / sigma_max) ** f for f in _fractions(num_steps)]


def edm_levels(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """Return levels whose ``rho``-th roots are even: Karras et al. (2022), eq. 5."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + f * (low - high)) ** rho for f in _fractions(num_steps)]


def iddpm_levels(
    num_steps: int,
    sigma_min: float,
    sigma_max: float,
    ratio_min: float,
    offset: float,
    num_levels: int,
) -> list[float]:
    """Return an even choice of the levels of Nichol and Dhariwal (2021), arXiv:2102.09672.

    Parameters
    ----------
    num_steps
        How many are chosen.
    sigma_min, sigma_max
        The range to choose from.
    ratio_min, offset, num_levels
        The constants C1, C2 and M of Karras et al. (2022), Table 1.

    Raises
    ------
    ValueError
        If the range contains none.
    """
    levels = [0.0]
    for j in range(num_levels, 0, -1):
        ratio = _signal(j - 1, offset, num_levels) / _signal(j, offset, num_levels)
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / max(ratio, ratio_min) - 1))
    inside = [level for level in reversed(levels) if sigma_min <= level <= sigma_max]
    if not inside:
        raise ValueError(
            f"none of the {num_levels} levels of the iddpm discretization, which end at "
            f"{max(levels):.4g}, is between sigma_min={sigma_min} and sigma_max={sigma_max}"
        )
    spacing = (len(inside) - 1) / max(num_steps - 1, 1)
    return [inside[round(spacing * i)] for i in range(num_steps)]


def _signal(j: int, offset: float, num_levels: int) -> float:
    return math.sin(0.5 * math.pi * j / num_levels / (offset + 1)) ** 2


def _fractions(num_steps: int) -> list[float]:
    # A single step starts at the highest level.
    return [i / max(num_steps - 1, 1) for i in range(num_steps)]
