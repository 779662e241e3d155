# SPDX-License-Identifier: Apache-2.0
r"""Guidance: energies, whose gradient draws samples to observations, and weighted conditions.

An energy :math:`E(x_0, \lambda)` is the negative logarithm of a likelihood, one number for each
sample, given the estimate of the data and the noise level. :func:`~physicsnemo.diffusion.sample`
adds all energies up and takes one gradient, through the network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, each_tensor, of_batch
from physicsnemo.diffusion.schedules import Schedule
from physicsnemo.utils import unwrap

Energy = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Observed:
    r"""Energy of observations :math:`y = A(x_0)` with noise.

    With the noise level :math:`\lambda = \sigma / \alpha`,

    .. math:: E = \sum \frac{|A(x_0) - y|^p}{2 (s^2 + \gamma \lambda^2)}

    ``gamma=0`` is diffusion posterior sampling (DPS), which takes the estimate for the data
    itself. A ``gamma`` counts its error, of variance :math:`\gamma\lambda^2`, as score-based data
    assimilation (SDA) does. That is exact for normal data of variance :math:`v` in what is
    observed, with ``gamma=lambda level: v / (v + level**2)``.

    Parameters
    ----------
    y
        Observations of shape (batch or 1, ...). What the mask leaves out may be NaN.
    std
        Standard deviation :math:`s` of their noise: a number, or a tensor that broadcasts to ``y``.
    operator
        :math:`A`, differentiable; by default the fields themselves are observed.
    mask
        Where there are observations, true or false, of a shape that broadcasts to that of ``y``.
    gamma
        Variance of the estimate's error, over :math:`\lambda^2`: a number, a tensor that
        broadcasts to ``y``, or a function of the level that returns one.
    p
        The power of the misfit; or a function of :math:`A(x_0)` and :math:`y` that takes its
        place, element by element.

    Raises
    ------
    ValueError
        If ``std`` or ``p`` is a number not above 0.

    References
    ----------
    Chung et al. 2023, "Diffusion posterior sampling", arXiv:2209.14687; Rozet and Louppe 2023,
    "Score-based data assimilation", arXiv:2306.10574, eq. 15.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion import Observed
    >>> first_row = Observed(torch.zeros(1, 1, 4), std=0.5, operator=lambda x: x[:, :, 0])
    >>> first_row(torch.ones(3, 1, 4, 4), 0.0)
    tensor([8., 8., 8.])
    """

    y: Tensor
    std: float | Tensor
    operator: Callable[[Tensor], Tensor] | None = None
    mask: Tensor | None = None
    gamma: float | Tensor | Callable[[Any], float | Tensor] = 0.0
    p: float | Callable[[Tensor, Tensor], Tensor] = 2.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not isinstance(self.std, Tensor) and not self.std > 0:
            raise ValueError(f"expected std above 0, got {self.std}")
        if not callable(self.p) and not self.p > 0:
            raise ValueError(f"expected p above 0, got {self.p}")

    def __call__(self, x0: Tensor, level: float | Tensor) -> Tensor:
        """Return the energy of each sample, of shape (batch,), at one level or one for each."""
        seen = x0 if self.operator is None else self.operator(x0)
        try:
            y = self.y.expand_as(seen)
        except RuntimeError:
            raise ValueError(
                f"expected observations y of a shape that broadcasts to {tuple(seen.shape)}, that "
                f"of what the operator returns, got {tuple(self.y.shape)}"
            ) from None
        if self.mask is not None:
            y = torch.where(self.mask, y, seen.detach())  # so that what is not observed fits
        if isinstance(level, Tensor):
            level = level.reshape(-1, *[1] * (seen.ndim - 1))
        gamma = self.gamma(level) if callable(self.gamma) else self.gamma
        energy = 0.5 * self._misfit(seen, y) / (self.std**2 + gamma * level**2)
        return energy.flatten(1).sum(dim=1)

    def _misfit(self, seen: Tensor, y: Tensor) -> Tensor:
        if callable(self.p):
            return self.p(seen, y)
        misfit = seen - y
        return misfit.square() if self.p == 2 else misfit.abs() ** self.p


class ClassifierFree(nn.Module):
    r"""Classifier-free guidance: :math:`(1 + w)` times the conditional model less :math:`w` others.

    Train with ``DenoisingLoss(model, dropout=0.1)``, which shows zeros for some conditions.

    Parameters
    ----------
    model
        The model.
    weight
        :math:`w`; 0 leaves the conditional model as it is.
    without
        What stands for no condition, by default zeros in its place.

    References
    ----------
    Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
    """

    def __init__(self, model: nn.Module, weight: float, without: Condition = None) -> None:
        super().__init__()
        self.model, self.weight, self.without = model, weight, without

    @property
    def schedule(self) -> Schedule:
        """The schedule of the model."""
        schedule: Schedule = unwrap(self.model).schedule  # type: ignore[assignment]
        return schedule

    def forward(self, x: Tensor, t: Tensor | float, condition: Condition = None) -> Tensor:
        """Return the estimate of the data; parameters as those of ``Diffusion.forward``."""
        if condition is None:
            raise ValueError("expected a condition to guide by, got None")
        with_ = of_batch(condition, x.shape[0])
        without = each_tensor(with_, lambda _, it: torch.zeros_like(it))
        without = without if self.without is None else of_batch(self.without, x.shape[0])
        estimate: Tensor = self.model(x, t, with_)
        other: Tensor = self.model(x, t, without)
        return estimate + self.weight * (estimate - other)


def guided(
    estimate: Callable[[Tensor, float], Tensor],
    energies: Sequence[Energy],
    schedule: Schedule,
) -> Callable[[Tensor, float], Tensor]:
    r"""Return an estimate of the data whose score is less the gradient of all energies.

    By Tweedie's formula, a term :math:`g` of the score is one of :math:`\sigma^2 g / \alpha` of
    the estimate.
    """
    if not energies:
        return estimate
    flow = schedule.flow

    def of_both(x: Tensor, t: float) -> Tensor:
        check_gradients()
        differentiable = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            leaf = x if differentiable else x.detach().requires_grad_()
            x0 = estimate(leaf, t)
            level = flow.schedule.sigma(t)
            total = torch.stack([energy(x0, level).sum() for energy in energies]).sum()
            (slope,) = torch.autograd.grad(total, leaf, create_graph=differentiable)
        x0 = x0 if differentiable else x0.detach()
        return x0 - flow.s(t) * level**2 * slope

    return of_both


def check_gradients() -> None:
    """Check that gradients can be taken, if need be by switching them on.

    Raises
    ------
    RuntimeError
        Under :func:`torch.inference_mode`.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("guidance needs gradients: use torch.no_grad, not inference_mode")
