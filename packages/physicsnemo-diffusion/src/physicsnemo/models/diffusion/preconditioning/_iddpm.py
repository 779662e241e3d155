# SPDX-License-Identifier: Apache-2.0
"""The preconditioner of improved denoising diffusion."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from physicsnemo.models.diffusion._constants import converted, rounded
from physicsnemo.models.diffusion._inputs import Resolution
from physicsnemo.models.diffusion.preconditioning._preconditioner import (
    PUBLIC,
    Preconditioner,
    Scalings,
    Sigma,
    legacy,
)
from physicsnemo.models.history import Constant
from physicsnemo.nn.numerics import PAPER
from physicsnemo.utils.diffusion._time_steps import alpha_bar, iddpm_schedule


class iDDPMPrecond(Preconditioner):  # noqa: N801  # as files name it
    r"""Preconditioner of improved denoising diffusion (iDDPM), with discrete noise levels.

    With :math:`\bar\alpha_j = \sin^2(\tfrac\pi2 \tfrac{j}{M (C_2 + 1)})` and :math:`u_M = 0`, the
    levels are :math:`u_{j-1} = \sqrt{(u_j^2 + 1) / \max(\bar\alpha_{j-1} / \bar\alpha_j, C_1) -
    1}`, from the noisiest :math:`u_0` downwards. The network is told the step :math:`M - 1 - j` of
    the nearest level. It returns a second number for each, the variance, which is not used.

    Parameters
    ----------
    img_resolution, label_dim, use_fp16, model_type, numerics, **model_kwargs
        As in :class:`Preconditioner`.
    img_channels
        Channels of the fields.
    C_1, C_2
        Noise schedule.
    M
        Number of steps.

    Attributes
    ----------
    u
        Noise levels, of shape (M + 1,); the last is 0.
    sigma_min, sigma_max
        The lowest level above 0, and the highest.

    Raises
    ------
    ValueError
        If there is no step, or as in :class:`Preconditioner`.

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

    _recorded_as = f"{PUBLIC}.iDDPMPrecond"
    _recorded_by_release = legacy("iDDPMPrecond")
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
        levels = iddpm_schedule(M, C_1, C_2)
        super().__init__(
            img_resolution=img_resolution,
            channels=img_channels,
            in_channels=img_channels,
            out_channels=2 * img_channels,
            sigma_min=levels[-2],
            sigma_max=levels[0],
            use_fp16=use_fp16,
            model_type=model_type,
            numerics=numerics,
            label_dim=label_dim,
            **model_kwargs,
        )
        self.img_channels = img_channels
        self.C_1, self.C_2, self.M = C_1, C_2, M
        self.register_buffer("u", rounded(self._exact_levels()))
        self._copied: tuple[int, int, Tensor] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.u
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._copied = None
        self.u = converted(before, self.u, self._exact_levels)
        return self

    def _exact_levels(self) -> Tensor:
        return torch.tensor(iddpm_schedule(self.M, self.C_1, self.C_2), dtype=torch.float64)

    def alpha_bar(self, j: float) -> float:
        r"""Return :math:`\bar\alpha_j`, the share of the signal at a step from the noisiest."""
        return alpha_bar(j, self.M, self.C_2)

    def round_sigma(  # type: ignore[override]  # which rounds nothing, and is static
        self, sigma: Sigma, return_index: bool = False
    ) -> Tensor:
        """Return the nearest of the discrete noise levels.

        Parameters
        ----------
        sigma
            Noise levels, of any shape.
        return_index
            Return their indices in ``u`` instead.

        Returns
        -------
        Levels, or integers, of the shape of ``sigma``.
        """
        sigma = torch.as_tensor(sigma)
        sigma = sigma if sigma.is_floating_point() else sigma.to(self.u.dtype)
        levels = self._levels_on_cpu() if sigma.is_cpu else self.u
        index = (sigma.to(levels.device).unsqueeze(-1) - levels).abs().argmin(dim=-1)
        return index.to(sigma.device) if return_index else levels[index].to(sigma)

    def _levels_on_cpu(self) -> Tensor:
        """Return ``u``, copied once, so that rounding on the CPU does not wait for a device."""
        if self.u.is_cpu or self.u.is_inference():
            return self.u.cpu()
        if self._copied is None or self._copied[:2] != (id(self.u), self.u._version):
            self._copied = id(self.u), self.u._version, self.u.cpu()
        return self._copied[2]

    def scalings(self, sigma: Tensor) -> Scalings:
        """Return the functions of the noise level; the network predicts the noise."""
        step = self.M - 1 - self.round_sigma(sigma, return_index=True)
        return Scalings(
            c_skip=torch.ones_like(sigma),
            c_out=-sigma,
            c_in=(sigma.square() + 1).rsqrt(),
            c_noise=step.to(sigma.dtype),
        )
