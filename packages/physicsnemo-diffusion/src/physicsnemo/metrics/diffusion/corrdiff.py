# SPDX-License-Identifier: Apache-2.0
"""The two losses of CorrDiff: regression for the mean, diffusion for the residual."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from physicsnemo.metrics.diffusion._views import Views
from physicsnemo.metrics.diffusion.denoising import DenoisingLoss, EDMLoss
from physicsnemo.utils.diffusion._nets import Net, RandnLike
from physicsnemo.utils.patching import BasePatching2D


class RegressionLoss:
    r"""Regression loss: the mean square error :math:`E \, |f(c) - y|^2` of predicted images.

    Its minimum is the mean of the images :math:`y` given the condition :math:`c`.

    References
    ----------
    Mardani et al. 2023, "Residual corrective diffusion modeling for km-scale atmospheric
    downscaling", arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.diffusion import RegressionLoss
    >>> images, condition = torch.randn(4, 1, 8, 8), torch.randn(4, 3, 8, 8)
    >>> RegressionLoss()(lambda x, img_lr: img_lr[:, :1], images, condition).shape
    torch.Size([])
    """

    def __call__(
        self,
        net: Net,
        images: Tensor,
        img_lr: Tensor,
        *,
        patching: BasePatching2D | None = None,
        weights: Tensor | None = None,
        lead_time_label: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a network on a batch of images.

        Parameters
        ----------
        net
            Network, such as :class:`~physicsnemo.models.diffusion.UNet`: any callable of the
            form ``net(x, img_lr, lead_time_label=..., embedding_selector=...)``, where ``x`` are
            zeros of the shape of the images. The keywords are passed where there is something to
            pass, ``embedding_selector`` only to a net that takes it.
        images, patching, weights, lead_time_label
            As for :meth:`DenoisingLoss.__call__`.
        img_lr
            Conditioning image of shape (batch, more channels, height, width).

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
        views = Views(images, patching, weights, lead_time_label=lead_time_label)
        return views.regression(net, views.condition(img_lr, img_lr))


_NOISE = EDMLoss(P_mean=0.0, P_std=1.2, sigma_data=0.5)


@dataclass(frozen=True)
class ResidualLoss:
    r"""Residual loss: that of a denoiser of :math:`y - f(c)`, what a regression leaves.

    Parameters
    ----------
    regression_net
        Regression network :math:`f` for the mean, trained before with :class:`RegressionLoss`, of
        the form that is described there. It gets no gradients.
    noise
        Denoising loss, with its noise levels and weights. By default that of EDM with ``P_mean=0``,
        which shows more noise than EDM does.
    mean_conditioning
        Condition the denoiser on the mean too: on :math:`f(c)`, then :math:`c`. Samplers are then
        given it as ``mean_hr``.

    References
    ----------
    Mardani et al. 2023, "Residual corrective diffusion modeling for km-scale atmospheric
    downscaling", arXiv:2309.15214.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.metrics.diffusion import ResidualLoss
    >>> loss = ResidualLoss(regression_net=lambda x, img_lr: img_lr[:, :1])
    >>> images, condition = torch.randn(4, 1, 8, 8), torch.randn(4, 3, 8, 8)
    >>> loss(lambda x, img_lr, sigma: x / (1 + sigma**2), images, condition).shape
    torch.Size([])
    """

    regression_net: Net
    noise: DenoisingLoss = _NOISE
    mean_conditioning: bool = False

    def __call__(
        self,
        net: Net,
        images: Tensor,
        img_lr: Tensor,
        *,
        mean: Tensor | None = None,
        patching: BasePatching2D | None = None,
        weights: Tensor | None = None,
        lead_time_label: Tensor | None = None,
        randn_like: RandnLike = torch.randn_like,
    ) -> Tensor:
        """Return the loss of a denoiser on a batch of images.

        Parameters
        ----------
        net, images, weights, lead_time_label, randn_like
            As for :meth:`DenoisingLoss.__call__`.
        img_lr
            Conditioning image of both nets, of shape (batch, more channels, height, width).
        mean
            Result of :meth:`mean`, if it is known, such as for further patches of the same images;
            by default, it is computed.
        patching
            Patch-based training: the denoiser sees patches, each with noise and a noise level of
            its own. Its condition is then the patch of ``img_lr``, and all of it, resized to the
            shape of a patch. The mean is computed once, on whole images.

        Returns
        -------
        The mean over samples, channels and pixels: a scalar.

        Raises
        ------
        TypeError
            If the images do not hold floating-point numbers.
        ValueError
            If shapes do not fit, a net does not take what it would have to be given, or the
            regression network is in training mode.
        """
        if mean is None:
            mean = self.mean(images, img_lr, lead_time_label=lead_time_label)
        if mean.shape != images.shape:
            raise ValueError(
                f"expected a mean of shape {tuple(images.shape)}, that of the images, got "
                f"{tuple(mean.shape)}"
            )
        views = Views(images - mean, patching, weights, lead_time_label=lead_time_label)
        condition = torch.cat((mean, img_lr), dim=1) if self.mean_conditioning else img_lr
        return views.denoising(
            noise=self.noise,
            net=net,
            condition=views.condition(condition, img_lr),
            randn_like=randn_like,
        )

    @torch.no_grad()
    def mean(
        self, images: Tensor, img_lr: Tensor, *, lead_time_label: Tensor | None = None
    ) -> Tensor:
        """Return the regression's prediction, of the shape of the images, without gradients.

        Parameters
        ----------
        images, img_lr, lead_time_label
            As for :meth:`__call__`. Of the images, only the shape and the type matter.

        Raises
        ------
        ValueError
            If shapes do not fit, the net does not take what it would have to be given, or it is in
            training mode.
        """
        if isinstance(self.regression_net, nn.Module) and self.regression_net.training:
            raise ValueError(
                "expected the regression network in evaluation mode, since dropout would change "
                "the mean; call its method eval()"
            )
        views = Views(images, None, None, lead_time_label=lead_time_label)
        return views.predicted(self.regression_net, views.condition(img_lr, None))
