# SPDX-License-Identifier: Apache-2.0
"""Networks that reconstruct flows from coarse data, in the interface of a preconditioner."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import (
    OVERRIDABLE,
    any_sigma,
    build_network,
)
from physicsnemo.models.diffusion._numerics import IMPLIED
from physicsnemo.models.diffusion.preconditioning._denoise import (
    PUBLIC,
    MetaData,
    Sigma,
    denoise,
)
from physicsnemo.models.diffusion.preconditioning._formulas import unscaled
from physicsnemo.models.diffusion.preconditioning._vorticity import residual_gradient
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER, has_oddity


class VEPrecond_dfsr(Module):  # noqa: N801  # as users know it
    """A network as it is, told the noise level itself.

    Parameters
    ----------
    img_resolution, img_channels, label_dim, use_fp16, model_type, numerics, **model_kwargs
        As in :class:`VPPrecond`.
    sigma_min, sigma_max
        The noise levels between which samplers go.
    dataset_mean, dataset_scale
        Mean and standard deviation that the fields were normalized by. Not used here.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

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

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.VEPrecond_dfsr"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    round_sigma = staticmethod(any_sigma)

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
        super().__init__(meta=MetaData(name="VEPrecond_dfsr"))
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.dataset_mean = dataset_mean
        self.dataset_scale = dataset_scale
        self.model = build_network(
            model_type,
            img_resolution,
            img_channels,
            img_channels,
            numerics,
            label_dim=label_dim,
            **model_kwargs,
        )

    def forward(
        self,
        x: Tensor,
        sigma: Sigma,
        class_labels: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Return the network's output; arguments, result and errors as :class:`VPPrecond`.

        A noise level may also be 0, the number of the last step of a sampler that counts steps.
        """
        return denoise(
            self,
            unscaled,
            x,
            sigma,
            channels=self.img_channels,
            or_zero=True,
            label_dim=self.label_dim,
            class_labels=class_labels,
            force_fp32=force_fp32,
            **model_kwargs,
        )


class VEPrecond_dfsr_cond(Module):  # noqa: N801
    """A network that also sees how the fields violate the equations of their flow.

    The fields are the vorticity of a Kolmogorov flow at successive times. What is added to them is
    the gradient of the mean square of the residual of the Navier-Stokes equations, each sample's by
    itself.

    Parameters
    ----------
    img_resolution, img_channels, label_dim, use_fp16, sigma_min, sigma_max
        As in :class:`VEPrecond_dfsr`, with at least three channels.
    dataset_mean, dataset_scale
        Mean and standard deviation that the vorticity was normalized by.
    model_type
        As in :class:`VPPrecond`.
    numerics
        As in :class:`VPPrecond`. The releases of nvidia-physicsnemo also take the mean square
        over all samples, so that the gradient of each is divided by how many there are.
    **model_kwargs
        Further arguments of the network, among them ``model_channels``.

    Raises
    ------
    KeyError
        If ``model_channels`` is not given.
    ValueError
        If there are less than three channels, there is no such network, or it refuses the
        arguments.

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

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.VEPrecond_dfsr_cond"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    round_sigma = staticmethod(any_sigma)

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
        super().__init__(meta=MetaData(name="VEPrecond_dfsr_cond"))
        if "model_channels" not in model_kwargs:
            raise KeyError("expected model_channels among the arguments, got none")
        if img_channels < 3:
            raise ValueError(
                f"expected img_channels of at least 3 successive times, got {img_channels}"
            )
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.dataset_mean = dataset_mean
        self.dataset_scale = dataset_scale
        self._samples_apart = not has_oddity(numerics, "batch_residual")
        hidden = model_kwargs["model_channels"]
        self.model = build_network(
            model_type,
            img_resolution,
            2 * hidden,
            img_channels,
            numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.conv_in = _around(img_channels, hidden)
        self.emb_conv = nn.Sequential(
            nn.Conv2d(img_channels, hidden, 1), nn.GELU(), _around(hidden, hidden)
        )

    def forward(
        self,
        x: Tensor,
        sigma: Sigma,
        class_labels: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Return the network's output; arguments, result and errors as :class:`VPPrecond`.

        A noise level may also be 0, the number of the last step of a sampler that counts steps.
        """
        return denoise(
            self,
            unscaled,
            x,
            sigma,
            channels=self.img_channels,
            or_zero=True,
            scaled_input=self._network_input,
            label_dim=self.label_dim,
            class_labels=class_labels,
            force_fp32=force_fp32,
            **model_kwargs,
        )

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

    def _network_input(self, x: Tensor, factor: Tensor) -> Tensor:
        vorticity = x * self.dataset_scale + self.dataset_mean
        gradient = self.voriticity_residual(vorticity) / self.dataset_scale
        own = self.conv_in.weight.dtype
        return torch.cat((self.conv_in(x.to(own)), self.emb_conv(gradient.to(own))), dim=1)


def _around(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a convolution of fields that are periodic."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="circular")
