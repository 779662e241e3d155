# SPDX-License-Identifier: Apache-2.0
r"""Preconditioners: networks scaled so that they see and return numbers of order one.

A preconditioner estimates the fields :math:`y` in :math:`x = y + \sigma n` with Gaussian noise
:math:`n`, by :math:`D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x; c_{noise})` of a network
:math:`F` (Karras et al. 2022, arXiv:2206.00364, table 1):

- :class:`VPPrecond`: :math:`1,\ -\sigma,\ 1/\sqrt{\sigma^2 + 1}` for the factors, and for
  :math:`c_{noise}` the time at which the noise reaches its level, in steps;
- :class:`iDDPMPrecond`: the same factors, and the number of the step with the nearest level;
- :class:`VEPrecond`: :math:`1,\ \sigma,\ 1`, and :math:`\ln(\sigma / 2)`;
- :class:`EDMPrecond`: :math:`\sigma_d^2 / s^2,\ \sigma \sigma_d / s,\ 1/s` with
  :math:`s^2 = \sigma^2 + \sigma_d^2`, and :math:`\tfrac14 \ln \sigma`;
- :class:`EDMPrecondSuperResolution`: the same, with fields of low resolution beside the noisy ones;
- :class:`tEDMPrecondSuperRes`: the same, for noise of Student's t distribution.

:class:`VEPrecond_dfsr` and :class:`VEPrecond_dfsr_cond` leave the network as it is. All are
subclasses of :class:`Preconditioner`.
"""

from physicsnemo.models.diffusion.preconditioning._dfsr import VEPrecond_dfsr, VEPrecond_dfsr_cond
from physicsnemo.models.diffusion.preconditioning._edm import EDMPrecond
from physicsnemo.models.diffusion.preconditioning._iddpm import iDDPMPrecond
from physicsnemo.models.diffusion.preconditioning._preconditioner import (
    MetaData,
    Preconditioner,
    Scalings,
)
from physicsnemo.models.diffusion.preconditioning._super_resolution import (
    EDMPrecondSR,
    EDMPrecondSuperResolution,
    tEDMPrecondSuperRes,
)
from physicsnemo.models.diffusion.preconditioning._vp_ve import VEPrecond, VPPrecond

__all__ = [
    "EDMPrecond",
    "EDMPrecondSR",
    "EDMPrecondSuperResolution",
    "MetaData",
    "Preconditioner",
    "Scalings",
    "VEPrecond",
    "VEPrecond_dfsr",
    "VEPrecond_dfsr_cond",
    "VPPrecond",
    "iDDPMPrecond",
    "tEDMPrecondSuperRes",
]
