# SPDX-License-Identifier: Apache-2.0
"""The preconditioner of improved denoising diffusion."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from physicsnemo.models.diffusion._constants import converted, rounded
from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion._network import OVERRIDABLE, build_network
from physicsnemo.models.diffusion._numerics import IMPLIED
from physicsnemo.models.diffusion.preconditioning._denoise import (
    PUBLIC,
    MetaData,
    Sigma,
    denoise,
)
from physicsnemo.models.diffusion.preconditioning._formulas import (
    Scalings,
    iddpm_alpha_bar,
    iddpm_levels,
    iddpm_scalings,
)
from physicsnemo.models.history import Constant
from physicsnemo.models.module import Module
from physicsnemo.nn.numerics import PAPER


class iDDPMPrecond(Module):  # noqa: N801  # as files name it
    r"""The preconditioner of improved denoising diffusion, whose noise levels are those of steps.

    With :math:`\bar\alpha_j = \sin^2(\tfrac\pi2 \tfrac{j}{M (C_2 + 1)})` and :math:`u_M = 0`, the
    levels are :math:`u_{j-1} = \sqrt{(u_j^2 + 1) / \max(\bar\alpha_{j-1} / \bar\alpha_j, C_1) -
    1}`, from the noisiest :math:`u_0` downwards. The network returns a second number for each, the
    variance, which is not used.

    Parameters
    ----------
    img_resolution, img_channels, label_dim, use_fp16, model_type, numerics, **model_kwargs
        As in :class:`VPPrecond`.
    C_1, C_2
        The noise schedule.
    M
        Number of steps.

    Attributes
    ----------
    u
        The noise levels, of shape (M + 1,); the last is 0.
    sigma_min, sigma_max
        The lowest level above 0, and the highest.

    Raises
    ------
    ValueError
        If there is no such network, or it refuses the arguments.

    References
    ----------
    Nichol and Dhariwal 2021, Improved denoising diffusion probabilistic models, arXiv:2102.09672;
    in the form of Karras et al. 2022, arXiv:2206.00364, table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import iDDPMPrecond
    >>> net = iDDPMPrecond(
    ...     16, img_channels=2, model_channels=8, channel_mult=[1, 2], attn_resolutions=[],
    ...     num_blocks=1, model_type="SongUNet",
    ... )
    >>> net(torch.randn(3, 2, 16, 16), sigma=net.round_sigma(2.0)).shape
    torch.Size([3, 2, 16, 16])
    """

    __module__ = PUBLIC
    _recorded_as: ClassVar[Mapping[str, str]] = {
        "2.0": "physicsnemo.diffusion.preconditioners.legacy.iDDPMPrecond"
    }
    _implied_args = IMPLIED
    _overridable_args = OVERRIDABLE
    _release_marks: ClassVar[dict[str, str]] = {"2.0": "^C_1$"}
    _state_history: ClassVar[tuple[Constant, ...]] = (
        *(Constant(name, since="2.0") for name in ("C_1", "C_2", "M")),
        Constant("u", tolerance=0.05),  # which releases until 2.0 computed in single precision
    )
    u: Tensor

    def __init__(
        self,
        img_resolution: Resolution,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        C_1: float = 0.001,  # noqa: N803
        C_2: float = 0.008,  # noqa: N803
        M: int = 1000,  # noqa: N803
        model_type: str = "DhariwalUNet",
        numerics: str = PAPER,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(meta=MetaData(name="iDDPMPrecond"))
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.label_dim = label_dim
        self.use_fp16 = use_fp16
        self.C_1 = C_1
        self.C_2 = C_2
        self.M = M
        levels = iddpm_levels(M, C_1, C_2)
        self.register_buffer("u", rounded(self._exact_levels()))
        self.sigma_min, self.sigma_max = levels[-2], levels[0]
        self.model = build_network(
            model_type,
            img_resolution,
            img_channels,
            2 * img_channels,
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
        """Estimate the fields in noise; arguments, result and errors as :class:`VPPrecond`.

        The network is told the step whose noise level is nearest.
        """
        return denoise(
            self,
            self._scalings,
            x,
            sigma,
            channels=self.img_channels,
            label_dim=self.label_dim,
            class_labels=class_labels,
            force_fp32=force_fp32,
            **model_kwargs,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.u
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.u = converted(before, self.u, self._exact_levels)
        return self

    def _exact_levels(self) -> Tensor:
        return torch.tensor(iddpm_levels(self.M, self.C_1, self.C_2), dtype=torch.float64)

    def alpha_bar(self, j: float) -> float:
        """Return the share of the signal at a step, counted from the noisiest."""
        return iddpm_alpha_bar(j, self.M, self.C_2)

    def round_sigma(self, sigma: Sigma, return_index: bool = False) -> Tensor:
        """Return the nearest noise levels of steps.

        Parameters
        ----------
        sigma
            Noise levels, of any shape.
        return_index
            Return the numbers of the steps instead.

        Returns
        -------
        Levels, or integers, of the shape of ``sigma``.
        """
        sigma = torch.as_tensor(sigma)
        sigma = sigma if sigma.is_floating_point() else sigma.to(self.u.dtype)
        index = (sigma.to(self.u.device).unsqueeze(-1) - self.u).abs().argmin(dim=-1)
        return index.to(sigma.device) if return_index else self.u[index].to(sigma)

    def _scalings(self, sigma: Tensor) -> Scalings:
        step = self.M - 1 - self.round_sigma(sigma, return_index=True)
        return iddpm_scalings(sigma, step.to(sigma.dtype))
