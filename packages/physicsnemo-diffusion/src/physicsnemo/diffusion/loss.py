# SPDX-License-Identifier: Apache-2.0
"""The training loss of diffusion models."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, each_tensor, of_batch
from physicsnemo.diffusion._noise import Generator, draw_normal
from physicsnemo.diffusion.model import Diffusion
from physicsnemo.diffusion.patches import Patches
from physicsnemo.nn.checks import check_choice
from physicsnemo.nn.precision import at_least_float32
from physicsnemo.utils import unwrap
from physicsnemo.utils.patching import BasePatching2D

Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True)
class DenoisingLoss:
    r"""Denoising loss :math:`E[w(t)\, |D(\alpha x_0 + \sigma n;\, t) - x_0|^2]`.

    Times are distributed as the model's schedule wants them, and the weight :math:`w`
    makes the error of the network, or of the noise where it is not scaled, count.

    Parameters
    ----------
    model
        A :class:`~physicsnemo.diffusion.Diffusion`, also in wrappers for parallel training.
    dropout
        Probability of zeros in place of a sample's condition, for
        :class:`~physicsnemo.diffusion.ClassifierFree` guidance.
    reduction
        ``"mean"`` or ``"sum"`` over all numbers, or ``"none"``.

    Raises
    ------
    ValueError
        If an option is unknown or out of range.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, eq. 2 and 8; Ho and Salimans 2022, arXiv:2207.12598,
    algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion import EDM, DenoisingLoss, Diffusion
    >>> from physicsnemo.models.diffusion import SongUNet
    >>> network = SongUNet(8, in_channels=2, out_channels=2, model_channels=8, channel_mult=[1])
    >>> loss = DenoisingLoss(Diffusion(network, EDM()))(torch.randn(4, 2, 8, 8))
    >>> loss.backward()
    """

    model: nn.Module
    dropout: float = 0.0
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice("reduction", self.reduction, get_args(Reduction))
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"expected dropout between 0 and 1, got {self.dropout}")
        if not isinstance(unwrap(self.model), Diffusion):
            raise TypeError(
                f"expected a Diffusion, got a {type(self.model).__name__}; wrap the network as in "
                f"Diffusion(network, EDM())"
            )

    def __call__(
        self,
        x0: Tensor,
        condition: Condition = None,
        *,
        weights: Tensor | None = None,
        t: Tensor | None = None,
        patches: BasePatching2D | Patches | None = None,
        generator: Generator = None,
    ) -> Tensor:
        """Return the loss on a batch of data.

        Parameters
        ----------
        x0
            Data of shape (batch, channels, ...), taken in single precision at least.
        condition
            A tensor, a mapping or None.
        weights
            Factors of the square error, such as the areas of pixels or a mask, of a shape that
            broadcasts to that of ``x0``. The loss is not divided by them.
        t
            Times (batch,), by default drawn; patches of an image then share its time.
        patches
            Patch-based training: each patch has noise and, unless ``t`` is given, a time of its
            own.
        generator
            Source of times, dropout and noise. With a seed for each sample, what a sample is shown
            does not depend on the batch.

        Returns
        -------
        A scalar, or with ``reduction="none"`` the weighted square errors of the data or patches.

        Raises
        ------
        ValueError
            If shapes do not fit, or data are no floating-point numbers.
        """
        if not x0.is_floating_point() or x0.ndim < 2:
            raise ValueError(
                f"expected data of shape (batch, channels, ...) in floating-point numbers, got "
                f"{x0.dtype} of shape {tuple(x0.shape)}"
            )
        x0 = x0.to(at_least_float32(x0.dtype))
        batch, own = len(x0), cast(Diffusion, unwrap(self.model))
        condition = self._dropped(of_batch(condition, batch), x0, generator)
        weights = None if weights is None else _spread(weights, x0)
        if patches is not None:
            patches = patches if isinstance(patches, Patches) else Patches(patches)
            condition = patches.condition(condition, batch, like=x0)
            t = None if t is None else patches.times(t)
            weights = None if weights is None else patches.fields(weights)
            x0 = patches.fields(x0)
        # Patches of an image are drawn with its own generator, so its axis comes first.
        views = batch, len(x0) // batch
        if t is None:
            normal = draw_normal(views, x0, generator)
            t = own.schedule.draw(normal.T.reshape(-1))
        t = t.to(x0)
        noise = own.schedule.noise((*views, *x0.shape[1:]), x0, generator)
        x = own.noisy(x0, t, noise.transpose(0, 1).reshape(x0.shape))
        error: Tensor = own.weight(t, x0) * (self.model(x, t, condition) - x0).square()
        return reduced(error if weights is None else error * weights, self.reduction)

    def _dropped(self, condition: Condition, like: Tensor, generator: Generator) -> Condition:
        if self.dropout == 0 or condition is None:
            return condition
        normal = draw_normal((len(like),), like, generator)
        kept = torch.special.ndtr(normal) >= self.dropout

        def masked(_: str, tensor: Tensor) -> Tensor:
            return torch.where(kept.reshape(-1, *[1] * (tensor.ndim - 1)), tensor, 0)

        return each_tensor(condition, masked)


def reduced(error: Tensor, reduction: Reduction) -> Tensor:
    """Return the mean or the sum of errors, or themselves."""
    if reduction == "none":
        return error
    return error.mean() if reduction == "mean" else error.sum()


def _spread(weights: Tensor, x0: Tensor) -> Tensor:
    try:
        return weights.to(x0).expand_as(x0)
    except RuntimeError:
        raise ValueError(
            f"expected weights of a shape that broadcasts to that of the data, "
            f"{tuple(x0.shape)}, got {tuple(weights.shape)}"
        ) from None
