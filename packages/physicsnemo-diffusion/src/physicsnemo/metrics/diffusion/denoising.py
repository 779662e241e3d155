# SPDX-License-Identifier: Apache-2.0
"""Denoising losses, which differ in the distribution and the weight of noise levels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from physicsnemo.diffusion.schedules import EDM, VP, log_uniform
from physicsnemo.metrics.diffusion._views import Views
from physicsnemo.utils.diffusion._nets import Net, RandnLike
from physicsnemo.utils.patching import BasePatching2D


class DenoisingLoss(ABC):
    r"""Denoising loss :math:`E[\lambda(\sigma) \, |D(y + \sigma n; \sigma) - y|^2]`.

    A subclass chooses the distribution of noise levels :math:`\sigma` and their weight
    :math:`\lambda`.
    """

    @abstractmethod
    def sigma(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into noise levels, distributed as they are to be."""

    @abstractmethod
    def weight(self, sigma: Tensor) -> Tensor:
        """Return the weight of the square error at noise levels."""

    def __call__(
        self,
        net: Net,
        images: Tensor,
        condition: Tensor | None = None,
        *,
        patching: BasePatching2D | None = None,
        weights: Tensor | None = None,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
        lead_time_label: Tensor | None = None,
        randn_like: RandnLike = torch.randn_like,
    ) -> Tensor:
        """Return the loss of a denoiser on a batch of images.

        Parameters
        ----------
        net
            Denoiser, such as any preconditioner. It is called as
            :func:`~physicsnemo.utils.diffusion.deterministic_sampler` calls it, with noise levels
            of shape (batch, 1, ..., 1).
        images
            Clean images of shape (batch, channels, height, width); without patches, fields on any
            grid. They are taken in single precision at least.
        condition
            Conditioning image of shape (batch, more channels, height, width).
        patching
            Patch-based training: the net sees patches, each with noise and a noise level of its
            own. Its condition is then the patch of ``condition``, and all of it, resized to the
            shape of a patch. A pixel counts as often as patches show it. Draw random patches anew
            for each step, by
            :meth:`~physicsnemo.utils.patching.RandomPatching2D.reset_patch_indices`.
        weights
            Factors of the square error, of any shape that broadcasts to that of the images, such
            as the areas of pixels (height, 1), or the importance of channels (channels, 1, 1).
            The loss is not divided by them: let their mean be 1.
        class_labels, augment_labels
            Labels of shape (batch, labels), passed to the net by keyword.
        lead_time_label
            Lead-time labels of shape (batch,), passed to the net by keyword.
        randn_like
            Source of standard normal numbers like a tensor whose first axis is the batch, first for
            noise levels, then for noise. With a :class:`StackedRandomGenerator
            <physicsnemo.utils.diffusion.StackedRandomGenerator>`'s method, what a sample is shown
            depends on its own seed alone.

        Returns
        -------
        The mean over samples, channels and pixels: a scalar.

        Raises
        ------
        TypeError
            If the images do not hold floating-point numbers.
        ValueError
            If shapes do not fit, or the net does not take what it would have to be given.
        """
        views = Views(
            images,
            patching,
            weights,
            class_labels=class_labels,
            augment_labels=augment_labels,
            lead_time_label=lead_time_label,
        )
        return views.denoising(
            noise=self,
            net=net,
            condition=views.condition(condition, condition),
            randn_like=randn_like,
        )


@dataclass(frozen=True)
class VPLoss(DenoisingLoss):
    r"""Loss of variance-preserving diffusion (VP).

    The noise level is :math:`\sigma(t) = \sqrt{e^{\beta_d t^2 / 2 + \beta_{min} t} - 1}`, with
    times uniform in :math:`(\epsilon_t, 1)`; the weight is :math:`1 / \sigma^2`.

    Parameters
    ----------
    beta_d, beta_min
        Noise schedule: the rate of noise is ``beta_min`` at first, and ``beta_d`` more at time 1.
    epsilon_t
        Earliest time, above 0.

    Raises
    ------
    ValueError
        If a parameter is not above 0, or ``epsilon_t`` not below 1.

    References
    ----------
    Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
    arXiv:2011.13456, as in Karras et al. 2022, arXiv:2206.00364, table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.diffusion import VPLoss
    >>> images = torch.randn(8, 1, 4, 4)
    >>> VPLoss()(lambda x, sigma: x / (1 + sigma**2), images).shape
    torch.Size([])
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    epsilon_t: float = 1e-5

    def __post_init__(self) -> None:
        """Check the parameters."""
        _check_positive(beta_d=self.beta_d, beta_min=self.beta_min)
        if not 0 < self.epsilon_t < 1:
            raise ValueError(f"expected epsilon_t between 0 and 1, got {self.epsilon_t}")

    def sigma(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into noise levels at uniform times."""
        schedule = VP(beta_min=self.beta_min, beta_d=self.beta_d, epsilon=self.epsilon_t)
        return schedule.level(schedule.draw(normal))

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the weight of the square error at noise levels."""
        return sigma.square().reciprocal()


@dataclass(frozen=True)
class VELoss(DenoisingLoss):
    r"""Loss of variance-exploding diffusion (VE).

    The logarithm of the noise level is uniform between those of :math:`\sigma_{min}` and
    :math:`\sigma_{max}`; the weight is :math:`1 / \sigma^2`.

    Parameters
    ----------
    sigma_min, sigma_max
        Lowest and highest noise level.

    Raises
    ------
    ValueError
        If not ``0 < sigma_min < sigma_max``.

    References
    ----------
    Song et al. 2021, "Score-based generative modeling through stochastic differential equations",
    arXiv:2011.13456, as in Karras et al. 2022, arXiv:2206.00364, table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.diffusion import VELoss
    >>> images = torch.randn(8, 1, 4, 4)
    >>> VELoss()(lambda x, sigma: x / (1 + sigma**2), images).shape
    torch.Size([])
    """

    sigma_min: float = 0.02
    sigma_max: float = 100.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"expected 0 < sigma_min < sigma_max, got sigma_min={self.sigma_min} and "
                f"sigma_max={self.sigma_max}"
            )

    def sigma(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into noise levels with uniform logarithms."""
        return log_uniform(normal, self.sigma_min, self.sigma_max)

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the weight of the square error at noise levels."""
        return sigma.square().reciprocal()


@dataclass(frozen=True)
class EDMLoss(DenoisingLoss):
    r"""Loss of EDM.

    The noise level is :math:`e^{P_{mean} + P_{std} n}` with a standard normal number :math:`n`. By
    the weight :math:`(\sigma^2 + \sigma_{data}^2) / (\sigma \, \sigma_{data})^2`, the loss of an
    :class:`~physicsnemo.models.diffusion.preconditioning.EDMPrecond` whose network returns zeros
    is 1 at any noise level, so that none outweighs others.

    Parameters
    ----------
    P_mean, P_std
        Mean and standard deviation of the logarithm of the noise level.
    sigma_data
        Standard deviation of the images, as given to the preconditioner.

    Raises
    ------
    ValueError
        If a standard deviation is out of range.

    References
    ----------
    Karras et al. 2022, "Elucidating the design space of diffusion-based generative models",
    arXiv:2206.00364, table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.diffusion import EDMLoss
    >>> images = 0.5 * torch.randn(1000, 1, 4, 4)
    >>> loss = EDMLoss()(lambda x, sigma: x * 0.25 / (0.25 + sigma**2), images)
    >>> bool((loss - 1).abs() < 0.1)
    True
    """

    P_mean: float = -1.2
    P_std: float = 1.2
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        """Check the parameters."""
        _check_positive(sigma_data=self.sigma_data)
        if self.P_std < 0:
            raise ValueError(f"expected P_std of at least 0, got {self.P_std}")

    def sigma(self, normal: Tensor) -> Tensor:
        """Turn standard normal numbers into log-normal noise levels."""
        return EDM(P_mean=self.P_mean, P_std=self.P_std).draw(normal)

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the weight of the square error at noise levels."""
        return sigma.square().reciprocal() + 1 / self.sigma_data**2  # equal, in fewer terms


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"expected {name} to be above 0, got {value}")
