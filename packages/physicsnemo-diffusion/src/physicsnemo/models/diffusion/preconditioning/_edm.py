# SPDX-License-Identifier: Apache-2.0
"""The preconditioner of EDM."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import NETWORK_HISTORY
from physicsnemo.models.diffusion.preconditioning._preconditioner import (
    PUBLIC,
    Preconditioner,
    Scalings,
    Sigma,
    legacy,
)
from physicsnemo.models.history import Constant, Value
from physicsnemo.nn.numerics import PAPER


class EDMPrecond(Preconditioner):
    r"""Preconditioner of EDM.

    With :math:`\sigma_{data}` that of the fields, the network's input and its training target have
    unit variance at any noise level, and its errors are amplified least.

    Parameters
    ----------
    img_resolution, label_dim, use_fp16, sigma_min, sigma_max, model_type, numerics, **model_kwargs
        As in :class:`Preconditioner`.
    img_channels
        Channels of the fields, unless ``img_out_channels`` says otherwise.
    sigma_data
        Standard deviation of the fields without noise, one number or one for each channel.
    img_in_channels
        Input channels of the network, those of the condition included; by default
        ``img_channels``.
    img_out_channels
        Channels of the fields; by default ``img_channels``.

    Raises
    ------
    ValueError
        If ``sigma_data`` is for another number of channels, or as in :class:`Preconditioner`.

    References
    ----------
    Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
    arXiv:2206.00364, section 5 and table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import EDMPrecond
    >>> net = EDMPrecond(
    ...     16, img_channels=2, img_in_channels=5, model_type="SongUNet", model_channels=8,
    ...     channel_mult=[1, 2], num_blocks=1,
    ... )
    >>> net(torch.randn(4, 2, 16, 16), sigma=2.0, condition=torch.randn(4, 3, 16, 16)).shape
    torch.Size([4, 2, 16, 16])
    """

    _recorded_as = f"{PUBLIC}.EDMPrecond"
    _recorded_by_release = legacy("EDMPrecond")
    _argument_history = (*NETWORK_HISTORY, Value("sigma_data", list, since="2.0"))
    _state_history: ClassVar[tuple[Constant, ...]] = (Constant("sigma_data", since="2.0"),)

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_data: float | Sequence[float] = 0.5,
        model_type: str = "DhariwalUNet",
        img_in_channels: int | None = None,
        img_out_channels: int | None = None,
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        in_channels = img_channels if img_in_channels is None else img_in_channels
        out_channels = img_channels if img_out_channels is None else img_out_channels
        super().__init__(
            img_resolution=img_resolution,
            channels=out_channels,
            in_channels=in_channels,
            out_channels=out_channels,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            use_fp16=use_fp16,
            model_type=model_type,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.img_channels = img_channels
        self.img_in_channels = in_channels
        self.img_out_channels = out_channels
        self.sigma_data = _checked(sigma_data, out_channels)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        sigma: Sigma,
        condition: Tensor | None = None,
        class_labels: Tensor | None = None,
        force_fp32: bool = False,
        **model_kwargs: Any,
    ) -> Tensor:
        """Estimate the fields in noise.

        Parameters
        ----------
        x, sigma, class_labels, force_fp32, **model_kwargs
            As in :meth:`Preconditioner.forward`, and so are results and errors.
        condition
            Fields of shape (batch, channels, height, width) that the network sees as they are.
        """
        return self._denoise(
            x,
            sigma,
            condition=condition,
            class_labels=class_labels,
            force_fp32=force_fp32,
            model_kwargs=model_kwargs,
        )

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level, for each channel if ``sigma_data`` is."""
        if isinstance(self.sigma_data, float):
            return edm_scalings(sigma, self.sigma_data)
        # Filled on the device, so that no copy waits for it.
        of_channels = torch.stack([sigma.new_full((1, 1), value) for value in self.sigma_data])
        return edm_scalings(sigma, of_channels)


def edm_scalings(sigma: Tensor, sigma_data: float | Tensor) -> Scalings:
    """Return the functions of the noise level, of which ``sigma_data`` may be (channels, 1, 1)."""
    # The variance of a noisy field. From it, appendix B.6 derives c_in and c_out by asking for
    # unit variance of the network's input and target, and c_skip by asking for the least c_out.
    total = sigma.square() + sigma_data**2
    return Scalings(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data * total.rsqrt(),
        c_in=total.rsqrt(),
        c_noise=sigma.log() / 4,
    )


def _checked(sigma_data: float | Sequence[float], channels: int) -> float | list[float]:
    if not isinstance(sigma_data, Sequence):
        return float(sigma_data)
    if len(sigma_data) != channels:
        raise ValueError(
            f"expected sigma_data to be one number, or one for each of {channels} channels, got "
            f"{sigma_data}"
        )
    return [float(value) for value in sigma_data]
