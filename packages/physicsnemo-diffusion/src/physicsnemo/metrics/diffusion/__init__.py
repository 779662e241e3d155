# SPDX-License-Identifier: Apache-2.0
r"""Training losses of diffusion models.

A denoiser :math:`D(x; \sigma)` learns to return the expectation of clean images :math:`y`, given
:math:`x = y + \sigma n` with standard normal noise :math:`n`. All losses that train one are

.. math:: E\left[\lambda(\sigma) \, |D(y + \sigma n; \sigma) - y|^2\right]

and differ in the distribution of the noise level :math:`\sigma` and in its weight
:math:`\lambda` (Karras et al. 2022, arXiv:2206.00364, table 1):

- :class:`VPLoss`: variance-preserving diffusion at uniform times, and :math:`1 / \sigma^2`;
- :class:`VELoss`: log-uniform levels, and :math:`1 / \sigma^2`;
- :class:`EDMLoss`: log-normal levels, and
  :math:`(\sigma^2 + \sigma_{data}^2) / (\sigma \, \sigma_{data})^2`.

CorrDiff (Mardani et al. 2023, arXiv:2309.15214) trains two networks: a regression for the mean of
the images given others of low resolution, with :class:`RegressionLoss`, and a denoiser for the
residual, with :class:`ResidualLoss`.

All losses take images as a whole or in patches (:mod:`physicsnemo.utils.patching`), with a
conditioning image or without, with weights for pixels, channels or samples, and with labels. They
call a net as the samplers of :mod:`physicsnemo.utils.diffusion` do.
"""

from physicsnemo.metrics.diffusion.corrdiff import RegressionLoss, ResidualLoss
from physicsnemo.metrics.diffusion.denoising import DenoisingLoss, EDMLoss, VELoss, VPLoss

__all__ = ["DenoisingLoss", "EDMLoss", "RegressionLoss", "ResidualLoss", "VELoss", "VPLoss"]
