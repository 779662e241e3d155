# SPDX-License-Identifier: Apache-2.0
"""The preconditioner of EDM."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import (
    OVERRIDABLE,
    any_sigma,
    build_network,
    join,
)
from physicsnemo.models.diffusion._numerics import IMPLIED
from physicsnemo.models.diffusion.preconditioning._denoise import (
    PUBLIC,
    MetaData,
    Sigma,
    denoise,
)
from physicsnemo.models.diffusion.preconditioning._formulas import Scalings, edm_scalings
from physicsnemo.models.history import Constant, Renamed
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER


class EDMPrecond(Module):
    r"""The preconditioner of EDM.

    With :math:`\sigma_{data}` that of the fields, the network's input and the target of its
    training have unit variance at any noise level, and its errors are amplified least.

    Parameters
    ----------
    img_resolution, label_dim, use_fp16, model_type, numerics, **model_kwargs
        As in :class:`VPPrecond`.
    img_channels
        Channels of the fields, unless ``img_out_channels`` says otherwise.
    sigma_min, sigma_max
        The noise levels between which samplers go.
    sigma_data
        Standard deviation of the fields without noise, one number or one for each channel.
    img_in_channels
        Channels that enter the network, those of the condition included; by default
        ``img_channels``.
    img_out_channels
        Channels of the fields; by default ``img_channels``.

    Attributes
    ----------
    model
        The network.

    Raises
    ------
    ValueError
        If there is no such network, it refuses the arguments, or ``sigma_data`` holds numbers for
        another number of channels.

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

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.EDMPrecond"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    _release_marks: ClassVar[dict[str, str]] = {"2.0": "^sigma_data$"}
    _state_history: ClassVar[tuple[Renamed | Constant, ...]] = (
        Constant("sigma_data", since="2.0"),
    )
    round_sigma = staticmethod(any_sigma)

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
        super().__init__(meta=MetaData(name="EDMPrecond"))
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.img_in_channels = img_channels if img_in_channels is None else img_in_channels
        self.img_out_channels = img_channels if img_out_channels is None else img_out_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.sigma_data = _checked(sigma_data, self.img_out_channels)
        self.model = build_network(
            model_type,
            img_resolution,
            self.img_in_channels,
            self.img_out_channels,
            numerics,
            label_dim=label_dim,
            **model_kwargs,
        )

    def forward(
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
            As in :meth:`VPPrecond.forward`.
        condition
            Fields of shape (batch, channels, height, width) that the network sees as they are.

        Returns
        -------
        Fields of the shape of ``x``, in float32, or in the type of the weights if that is wider.

        Raises
        ------
        TypeError
            If an argument does not hold real numbers.
        ValueError
            If an argument has another shape or device than described, or a noise level is none.
        """

        def scaled_input(x: Tensor, factor: Tensor) -> Tensor:
            return x * factor if condition is None else join(x * factor, condition)

        return denoise(
            self,
            self._scalings,
            x,
            sigma,
            channels=self.img_out_channels,
            scaled_input=scaled_input,
            label_dim=self.label_dim,
            class_labels=class_labels,
            force_fp32=force_fp32,
            **model_kwargs,
        )

    def _scalings(self, sigma: Tensor) -> Scalings:
        if isinstance(self.sigma_data, float):
            return edm_scalings(sigma, self.sigma_data)
        # Filled on the device, so that no copy waits for it.
        of_channels = torch.stack([sigma.new_full((1, 1), value) for value in self.sigma_data])
        return edm_scalings(sigma, of_channels)


def _checked(sigma_data: float | Sequence[float], channels: int) -> float | list[float]:
    if not isinstance(sigma_data, Sequence):
        return float(sigma_data)
    if len(sigma_data) != channels:
        raise ValueError(
            f"expected sigma_data to be one number, or one for each of {channels} channels, got "
            f"{sigma_data}"
        )
    return [float(value) for value in sigma_data]
