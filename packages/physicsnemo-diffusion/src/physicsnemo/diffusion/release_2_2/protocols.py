# SPDX-License-Identifier: Apache-2.0
"""What models, schedules, solvers and guidance of release 2.2 can be called with.

As of all such protocols, ``isinstance`` looks for the names of methods alone.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from physicsnemo.diffusion._conditions import Condition

PredictorType = Literal["x0", "score", "epsilon"]


@runtime_checkable
class DiffusionModel(Protocol):
    """What can be trained: noisy data, times (batch,) and a condition to a prediction."""

    def __call__(
        self, x: Tensor, t: Tensor, condition: Condition = None, **model_kwargs: Any
    ) -> Tensor:
        """Return the prediction, of the shape of ``x``."""


@runtime_checkable
class Predictor(Protocol):
    """A model with its condition: noisy data and times (batch,) to a prediction."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the prediction, of the shape of ``x``."""


@runtime_checkable
class Denoiser(Protocol):
    """The derivative of the state in sampling, which is no estimate of the data."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the derivative, of the shape of ``x``."""


@runtime_checkable
class Solver(Protocol):
    """One step of sampling."""

    def step(self, x: Tensor, t_cur: Tensor, t_next: Tensor) -> Tensor:
        """Return the state at ``t_next``; both times are of shape (batch,)."""


@runtime_checkable
class NoiseScheduler(Protocol):
    """All that training and sampling ask of a noise schedule."""

    def sample_time(
        self,
        N: int,  # noqa: N803
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw N times for training."""

    def add_noise(self, x0: Tensor, time: Tensor) -> Tensor:
        """Return data with noise at times (batch,)."""

    def timesteps(
        self, num_steps: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the times of so many steps, decreasing, and 0 at last."""

    def init_latents(
        self,
        spatial_shape: Sequence[int],
        tN: Tensor,  # noqa: N803
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw the state to begin sampling with, of shape (batch, *spatial_shape)."""

    def get_denoiser(self, **kwargs: Any) -> Denoiser:
        """Return the derivative of the state, by what a predictor returns."""

    def loss_weight(self, t: Tensor) -> Tensor:
        """Return the weights of square errors of data at times."""


@runtime_checkable
class DPSGuidance(Protocol):
    """A term of the score that draws samples to something."""

    def __call__(self, x: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """Return the term at noisy data, times (batch,) and the estimate of the data there."""


@runtime_checkable
class MultiDiffusionDPSGuidance(Protocol):
    """A term of the score of patches."""

    def __call__(self, x: Tensor, t: Tensor, x_0: Tensor, slice_start: int | None = None) -> Tensor:
        """Return the term for patches, of which ``slice_start`` is the first of all."""
