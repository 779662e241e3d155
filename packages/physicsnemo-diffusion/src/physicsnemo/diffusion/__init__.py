# SPDX-License-Identifier: Apache-2.0
r"""Diffusion models around any network: schedules, training, sampling and guidance.

A :class:`Diffusion` holds a network and a noise schedule (:class:`EDM`, :class:`VE`, :class:`VP`,
:class:`IDDPM`), and estimates data :math:`x_0` in :math:`x_t = \alpha(t) x_0 + \sigma(t) n`.
:class:`DenoisingLoss` trains it, :func:`sample` samples from it, by :class:`Heun`'s method or
another, from a condition or guided by energies such as :class:`Observed`. :class:`Patches` lets it
work on parts of large images, and :class:`PowerEMA` averages its weights.
"""

from physicsnemo.diffusion.averages import PowerEMA, Snapshot, combined
from physicsnemo.diffusion.guidance import ClassifierFree, Observed
from physicsnemo.diffusion.loss import DenoisingLoss
from physicsnemo.diffusion.methods import (
    DDIM,
    Churn,
    DPMSolver,
    Euler,
    EulerMaruyama,
    Flow,
    Heun,
)
from physicsnemo.diffusion.model import Diffusion
from physicsnemo.diffusion.patches import Patches
from physicsnemo.diffusion.sampling import sample
from physicsnemo.diffusion.schedules import EDM, IDDPM, VE, VP, Schedule

__all__ = [
    "DDIM",
    "EDM",
    "IDDPM",
    "VE",
    "VP",
    "Churn",
    "ClassifierFree",
    "DPMSolver",
    "DenoisingLoss",
    "Diffusion",
    "Euler",
    "EulerMaruyama",
    "Flow",
    "Heun",
    "Observed",
    "Patches",
    "PowerEMA",
    "Schedule",
    "Snapshot",
    "combined",
    "sample",
]
