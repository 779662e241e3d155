# SPDX-License-Identifier: Apache-2.0
"""Diffusion-based flow super-resolution (DFSR), in the interface of a preconditioner."""

from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion.preconditioning._preconditioner import (
    PUBLIC,
    Preconditioner,
    Scalings,
    legacy,
)
from physicsnemo.models.diffusion.preconditioning._vorticity import residual_gradient
from physicsnemo.nn.numerics import PAPER, has_oddity


class VEPrecond_dfsr(Preconditioner):  # noqa: N801  # as users know it
    """Network without preconditioning, for diffusion-based flow super-resolution (DFSR).

    The network is told the noise level itself, which may also be 0.

    Parameters
    ----------
    img_resolution, label_dim, use_fp16, sigma_min, sigma_max, model_type, numerics, **model_kwargs
        As in :class:`Preconditioner`.
    img_channels
        Channels of the fields.
    dataset_mean, dataset_scale
        Mean and standard deviation that the fields were normalized by. Not used here.

    References
    ----------
    Shu et al. 2023, A physics-informed diffusion model for high-fidelity flow field
    reconstruction, arXiv:2211.14680.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import VEPrecond_dfsr
    >>> net = VEPrecond_dfsr(16, img_channels=3, model_channels=8, channel_mult=[1, 2])
    >>> net(torch.randn(2, 3, 16, 16), sigma=torch.tensor([20.0, 400.0])).shape
    torch.Size([2, 3, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.VEPrecond_dfsr"
    _recorded_by_release = legacy("VEPrecond_dfsr")
    _sigma_may_be_zero = True  # at the last step, for samplers that count steps

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        dataset_mean: float = 5.85e-05,
        dataset_scale: float = 4.79,
        model_type: str = "SongUNet",
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            img_resolution=img_resolution,
            channels=img_channels,
            in_channels=img_channels,
            out_channels=img_channels,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            use_fp16=use_fp16,
            model_type=model_type,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.img_channels = img_channels
        self.dataset_mean = dataset_mean
        self.dataset_scale = dataset_scale

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level, which leave the network as it is."""
        return _unscaled(sigma)


class VEPrecond_dfsr_cond(Preconditioner):  # noqa: N801
    """Physics-informed :class:`VEPrecond_dfsr`: the network also sees the residual's gradient.

    The fields are the vorticity of a Kolmogorov flow at successive times. Beside features of them,
    the network sees features of the gradient of the mean square residual of the Navier-Stokes
    equations, taken for each sample by itself.

    Parameters
    ----------
    img_resolution, label_dim, use_fp16, sigma_min, sigma_max, model_type
        As in :class:`Preconditioner`.
    img_channels
        Channels of the fields: three times at least.
    dataset_mean, dataset_scale
        Mean and standard deviation that the vorticity was normalized by.
    numerics
        As in :class:`Preconditioner`. The releases of nvidia-physicsnemo also take the mean square
        over all samples, so that the gradient of each is divided by how many there are.
    **model_kwargs
        Further arguments of the network, among them ``model_channels``.

    Raises
    ------
    KeyError
        If ``model_channels`` is not given.
    ValueError
        If there are fewer than three channels, or as in :class:`Preconditioner`.

    References
    ----------
    Shu et al. 2023, arXiv:2211.14680, section 3.3.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import VEPrecond_dfsr_cond
    >>> net = VEPrecond_dfsr_cond(16, img_channels=3, model_channels=8, channel_mult=[1, 2])
    >>> net(torch.randn(2, 3, 16, 16), sigma=torch.tensor([20.0, 400.0])).shape
    torch.Size([2, 3, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.VEPrecond_dfsr_cond"
    _recorded_by_release = legacy("VEPrecond_dfsr_cond")
    _sigma_may_be_zero = True  # at the last step, for samplers that count steps

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        dataset_mean: float = 5.85e-05,
        dataset_scale: float = 4.79,
        model_type: str = "SongUNet",
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        if "model_channels" not in model_kwargs:
            raise KeyError("expected model_channels among the arguments, got none")
        if img_channels < 3:
            raise ValueError(
                f"expected img_channels of at least 3 successive times, got {img_channels}"
            )
        hidden = model_kwargs["model_channels"]
        super().__init__(
            img_resolution=img_resolution,
            channels=img_channels,
            in_channels=2 * hidden,
            out_channels=img_channels,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            use_fp16=use_fp16,
            model_type=model_type,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.img_channels = img_channels
        self.dataset_mean = dataset_mean
        self.dataset_scale = dataset_scale
        self._samples_apart = not has_oddity(numerics, "batch_residual")
        self.conv_in = _periodic(img_channels, hidden)
        self.emb_conv = nn.Sequential(
            nn.Conv2d(img_channels, hidden, 1), nn.GELU(), _periodic(hidden, hidden)
        )

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level, which leave the network as it is."""
        return _unscaled(sigma)

    def network_input(self, x: Tensor, c_in: Tensor, condition: Tensor | None) -> Tensor:
        """Return features of the fields, and of the gradient of their residual."""
        vorticity = x * self.dataset_scale + self.dataset_mean
        gradient = self.voriticity_residual(vorticity) / self.dataset_scale
        own = self.conv_in.weight.dtype
        return torch.cat((self.conv_in(x.to(own)), self.emb_conv(gradient.to(own))), dim=1)

    def voriticity_residual(self, w: Tensor, re: float = 1000.0, dt: float = 1 / 32) -> Tensor:
        """Return the gradient of the mean square of the residual with respect to the vorticity.

        Parameters
        ----------
        w
            Vorticity at successive times, of shape (batch, times, height, width).
        re
            The Reynolds number.
        dt
            Time from one field to the next.

        Returns
        -------
        The gradient, of that shape; it has itself no gradient.

        Raises
        ------
        ValueError
            If there are not at least three times.
        """
        return residual_gradient(w.detach(), re, dt, samples_apart=self._samples_apart)


def _unscaled(sigma: Tensor) -> Scalings:
    ones = torch.ones_like(sigma)
    return Scalings(c_skip=torch.zeros_like(sigma), c_out=ones, c_in=ones, c_noise=sigma)


def _periodic(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="circular")
