# SPDX-License-Identifier: Apache-2.0
"""Losses of release 2.2: the error of the estimated data, by the scheduler's noise and weight.

:class:`~physicsnemo.diffusion.DenoisingLoss` is all of them for a model that has a schedule.
"""

from collections.abc import Callable
from typing import Any, get_args

from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition
from physicsnemo.diffusion.loss import Reduction, reduced
from physicsnemo.diffusion.release_2_2.multi_diffusion import MultiDiffusionModel2D, as_x0
from physicsnemo.diffusion.release_2_2.protocols import (
    DiffusionModel,
    NoiseScheduler,
    PredictorType,
)
from physicsnemo.nn.checks import check_choice
from physicsnemo.utils import unwrap

_ToX0 = Callable[[Tensor, Tensor, Tensor], Tensor]


class _Loss:
    """Parameters are those of :class:`MSEDSMLoss`."""

    def __init__(
        self,
        model: DiffusionModel,
        noise_scheduler: NoiseScheduler,
        prediction_type: PredictorType = "x0",
        score_to_x0_fn: _ToX0 | None = None,
        epsilon_to_x0_fn: _ToX0 | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("reduction", reduction, get_args(Reduction))
        score_to_x0_fn = score_to_x0_fn or getattr(noise_scheduler, "score_to_x0", None)
        epsilon_to_x0_fn = epsilon_to_x0_fn or getattr(noise_scheduler, "epsilon_to_x0", None)
        self._to_x0 = as_x0(prediction_type, score_to_x0_fn, epsilon_to_x0_fn)
        self.model, self.noise_scheduler, self.reduction = model, noise_scheduler, reduction

    def _of(
        self,
        x0: Tensor,
        weight: Tensor | None,
        t: Tensor | None,
        condition: Condition,
        **model_kwargs: Any,
    ) -> Tensor:
        if t is None:
            t = self.noise_scheduler.sample_time(len(x0), device=x0.device, dtype=x0.dtype)
        x = self.noise_scheduler.add_noise(x0, t)
        estimate = self._to_x0(self.model(x, t, condition=condition, **model_kwargs), x, t)
        of_times = self.noise_scheduler.loss_weight(t)
        of_times = of_times.reshape(*of_times.shape, *[1] * (x0.ndim - of_times.ndim))
        error = of_times * (estimate - x0).square()
        return reduced(error if weight is None else weight * error, self.reduction)


class MSEDSMLoss(_Loss):
    r"""Denoising loss :math:`E[w(t)\, |D(x_t; t) - x_0|^2]`.

    Parameters
    ----------
    model
        The model, ``model(x, t, condition=condition)``.
    noise_scheduler
        Gives times, noise and weights.
    prediction_type
        What the model returns: ``"x0"``, ``"score"`` or ``"epsilon"``. The error is of the data
        anyway.
    score_to_x0_fn, epsilon_to_x0_fn
        ``function(prediction, x, t)`` to the data, by default those of the scheduler.
    reduction
        ``"mean"`` or ``"sum"`` over all numbers, or ``"none"``.

    Raises
    ------
    ValueError
        If an option is unknown, or the function that the prediction needs is missing.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion.metrics import MSEDSMLoss
    >>> from physicsnemo.diffusion.noise_schedulers import EDMNoiseScheduler
    >>> loss = MSEDSMLoss(lambda x, t, condition: 0 * x, EDMNoiseScheduler())
    >>> print(f"{loss(torch.ones(2, 1, 4), t=torch.ones(2)):.3f}")
    5.000
    """

    def __call__(
        self,
        x0: Tensor,
        t: Tensor | None = None,
        condition: Condition = None,
        **model_kwargs: Any,
    ) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        x0
            Data of shape (batch, ...).
        t
            Times of shape (batch,), by default drawn.
        condition
            The condition.
        **model_kwargs
            Further arguments of the model.
        """
        return self._of(x0, None, t, condition, **model_kwargs)


class WeightedMSEDSMLoss(_Loss):
    """:class:`MSEDSMLoss`, with a factor of the square error of each number."""

    def __call__(
        self,
        x0: Tensor,
        weight: Tensor,
        t: Tensor | None = None,
        condition: Condition = None,
        **model_kwargs: Any,
    ) -> Tensor:
        """Return the loss; ``weight`` is of the shape of ``x0``, the rest as of the other.

        Raises
        ------
        ValueError
            If the weight is of another shape.
        """
        return self._of(x0, _checked(weight, x0), t, condition, **model_kwargs)


class _PatchLoss(_Loss):
    """Parameters are those of :class:`MSEDSMLoss`."""

    def __init__(self, model: DiffusionModel, *arguments: Any, **options: Any) -> None:
        super().__init__(model, *arguments, **options)
        plain = unwrap(model) if isinstance(model, nn.Module) else model
        if not isinstance(plain, MultiDiffusionModel2D):
            raise TypeError(
                f"expected a MultiDiffusionModel2D as the model, got a {type(plain).__name__}"
            )
        self._patches = plain

    def _of_patches(
        self,
        x0: Tensor,
        weight: Tensor | None,
        t: Tensor | None,
        condition: Condition,
        reset_patch_indices: bool,
        **model_kwargs: Any,
    ) -> Tensor:
        if reset_patch_indices:
            self._patches.reset_patch_indices()
        weight = None if weight is None else self._patches.patch_x(weight)
        known = {"x_is_patched": True, "t_is_patched": True, **model_kwargs}
        return self._of(self._patches.patch_x(x0), weight, t, condition, **known)


class MultiDiffusionMSEDSMLoss(_PatchLoss):
    """:class:`MSEDSMLoss` of patches, each with a time of its own.

    Parameters are those of the other; the model is a :class:`MultiDiffusionModel2D` at random
    places, also in wrappers for parallel training.
    """

    def __call__(
        self,
        x0: Tensor,
        condition: Condition = None,
        reset_patch_indices: bool = True,
        t: Tensor | None = None,
        **model_kwargs: Any,
    ) -> Tensor:
        """Return the loss.

        Parameters
        ----------
        x0
            Images of shape (batch, channels, height, width).
        condition
            That of the images.
        reset_patch_indices
            Draw new places.
        t
            Times of the patches, of shape (patches * batch,), the batch running fastest.
        **model_kwargs
            Further arguments of the model.
        """
        return self._of_patches(x0, None, t, condition, reset_patch_indices, **model_kwargs)


class MultiDiffusionWeightedMSEDSMLoss(_PatchLoss):
    """:class:`MultiDiffusionMSEDSMLoss`, with a factor of the square error of each number."""

    def __call__(
        self,
        x0: Tensor,
        weight: Tensor,
        condition: Condition = None,
        reset_patch_indices: bool = True,
        t: Tensor | None = None,
        **model_kwargs: Any,
    ) -> Tensor:
        """Return the loss; ``weight`` is of the shape of ``x0``, the rest as of the other.

        Raises
        ------
        ValueError
            If the weight is of another shape.
        """
        weight = _checked(weight, x0)
        return self._of_patches(x0, weight, t, condition, reset_patch_indices, **model_kwargs)


def _checked(weight: Tensor, x0: Tensor) -> Tensor:
    if weight.shape != x0.shape:
        raise ValueError(
            f"expected weight of the shape of the data, {tuple(x0.shape)}, got "
            f"{tuple(weight.shape)}"
        )
    return weight
