# SPDX-License-Identifier: Apache-2.0
"""The model: a network and a schedule, which together estimate data in noise."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from physicsnemo.diffusion._conditions import Condition, call, of_batch
from physicsnemo.diffusion._conversions import (
    epsilon_of_score,
    epsilon_of_x0,
    score_of_epsilon,
    x0_of_epsilon,
)
from physicsnemo.diffusion._scalings import Scaling, error_weight, scalings
from physicsnemo.diffusion.schedules import Schedule
from physicsnemo.models.diffusion.preconditioning import Scalings
from physicsnemo.models.meta import ModelMetaData
from physicsnemo.models.module import Module
from physicsnemo.nn.checks import check_choice
from physicsnemo.nn.precision import at_least_float32

Predicts = Literal["x0", "epsilon", "score"]


class Diffusion(Module):
    r"""Diffusion model: estimates data :math:`x_0` in :math:`x_t = \alpha x_0 + \sigma n`.

    Parameters
    ----------
    network
        Any model that returns fields of the shape of the noisy ones. What it is given follows from
        the names of its parameters: ``network(x, label, condition=condition)`` if one is called
        ``condition``; ``network(x, label, class_labels=vector)`` with the image of the condition
        among the channels if one is called ``noise_labels``, as of ``SongUNet``; else the label,
        which tells the time, and the image are further channels, as for ``FNO``.
    schedule
        Noise schedule. It is saved with the model.
    predicts
        What the network returns: the data, the noise (``"epsilon"``) or the ``"score"``.
        Other than ``"x0"`` it needs ``scaling=None``.
    scaling
        How the network is scaled, with the level :math:`\lambda = \sigma/\alpha`, so that
        :math:`x_0 = c_{skip} x_t / \alpha + c_{out} F(c_{in} x_t / \alpha)`: ``"edm"``, to unit
        variance of its input and target; ``"vp"`` and ``"iddpm"``, to unit variance of its input,
        and it returns the noise times -1; ``"ve"``, input as it is, output times :math:`\lambda`.
        None gives it :math:`x_t` and :math:`t` themselves.
    sigma_data
        Standard deviation of the data, or one for each channel, for ``"edm"``.

    Attributes
    ----------
    network, schedule
        As given. Steps are recorded as CUDA graphs, and run under autocast, if the metadata of
        the network allows it.

    Raises
    ------
    ValueError
        If an option is unknown, or two do not go together.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, eq. 7 and table 1.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.diffusion import EDM, Diffusion
    >>> from physicsnemo.models.diffusion import SongUNet
    >>> network = SongUNet(8, in_channels=2 + 1, out_channels=2, model_channels=8, channel_mult=[1])
    >>> model = Diffusion(network, EDM())
    >>> x, t, image = torch.randn(4, 2, 8, 8), torch.rand(4), torch.randn(4, 1, 8, 8)
    >>> model(x, t, image).shape, model.score(x, t, {"image": image}).shape
    (torch.Size([4, 2, 8, 8]), torch.Size([4, 2, 8, 8]))
    """

    _recorded_as = "physicsnemo.diffusion.Diffusion"

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Record the schedule by its name and numbers, which a file can hold."""
        named = {name: _storable(value) for name, value in kwargs.items()}
        return super().__new__(cls, *map(_storable, args), **named)

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule | Mapping[str, Any],
        predicts: Predicts = "x0",
        scaling: Scaling | None = "edm",
        sigma_data: float | Sequence[float] = 0.5,
    ) -> None:
        super().__init__(meta=_flags(network))
        check_choice("predicts", predicts, get_args(Predicts))
        if scaling is not None:
            check_choice("scaling", scaling, get_args(Scaling))
        if predicts != "x0" and scaling is not None:
            raise ValueError(
                f"a scaling makes the network's output x0, so that it cannot be predicts="
                f"{predicts!r} and scaling={scaling!r}; set scaling=None for a network that takes "
                f"x and t themselves and returns the {predicts}"
            )
        self.sigma_data = list(sigma_data) if isinstance(sigma_data, Sequence) else sigma_data
        values = self.sigma_data if isinstance(self.sigma_data, list) else [self.sigma_data]
        if not all(value > 0 for value in values):
            raise ValueError(f"expected sigma_data above 0, got {sigma_data}")
        self.network = network
        self.schedule = Schedule.restore(schedule)
        self.predicts, self.scaling = predicts, scaling

    def forward(self, x: Tensor, t: Tensor | float, condition: Condition = None) -> Tensor:
        """Estimate the data.

        Parameters
        ----------
        x
            Noisy fields of shape (batch, channels, ...).
        t
            Time of the schedule, above 0: one number, or one for each sample, of shape (batch,).
        condition
            A tensor or a mapping of tensors, for each sample or one for all, or None. A tensor
            with as many axes as ``x`` is an image, one of two axes a vector; a mapping names them
            ``image`` and ``vector``.

        Returns
        -------
        The expectation of the data, of the shape of ``x``, in single precision at least.

        Raises
        ------
        ValueError
            If shapes do not fit, or the network takes no such condition.
        """
        x, t = self._checked(x, t)
        output = self._output(x, t, condition)
        if self.predicts == "x0":
            return output
        alpha, level = self._of_time(t, x)
        noise = output if self.predicts == "epsilon" else epsilon_of_score(output, alpha * level)
        return x0_of_epsilon(noise, x, alpha, alpha * level)

    def epsilon(self, x: Tensor, t: Tensor | float, condition: Condition = None) -> Tensor:
        """Estimate the noise, of standard deviation 1; parameters as those of :meth:`forward`."""
        x, t = self._checked(x, t)
        output = self._output(x, t, condition)
        alpha, level = self._of_time(t, x)
        if self.predicts == "epsilon":
            return output
        if self.predicts == "score":
            return epsilon_of_score(output, alpha * level)
        return epsilon_of_x0(output, x, alpha, alpha * level)

    def score(self, x: Tensor, t: Tensor | float, condition: Condition = None) -> Tensor:
        """Estimate the gradient of the log density of ``x``; parameters as of :meth:`forward`."""
        x, t = self._checked(x, t)
        alpha, level = self._of_time(t, x)
        return score_of_epsilon(self.epsilon(x, t, condition), alpha * level)

    def noisy(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return data with noise at times (batch,)."""
        alpha, level = self._of_time(t, x0)
        return alpha * (x0 + level * noise)

    def scalings(self, t: Tensor, x: Tensor) -> Scalings:
        """Return the factors at times of shape (batch,), to multiply fields like ``x`` with."""
        level = self._of_time(t, x)[1] * self.schedule.spread
        return scalings(self.scaling, level, self.schedule.label(t), self._sigma_data(x))

    def weight(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the weight of the square error of ``x0`` at times, which makes its size one.

        That is the error of the network where it is scaled, else that of the noise.
        """
        level = self._of_time(t, x)[1] * self.schedule.spread
        return error_weight(self.scaling, level, self._sigma_data(x))

    def _output(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return what is predicted: that of a scaled network is the data."""
        condition = of_batch(condition, x.shape[0])
        if self.scaling is None:
            return self._network(x, t, condition)
        c = self.scalings(t, x)
        scaled = x / self._of_time(t, x)[0]
        return c.c_skip * scaled + c.c_out * self._network(c.c_in * scaled, c.c_noise, condition)

    def _network(self, x: Tensor, label: Tensor, condition: Condition) -> Tensor:
        own = self.device_buffer.dtype
        output = call(self.network, x.to(own), label.to(own), condition)
        # Those of improved DDPM return a second number for each, the variance.
        output = output[:, : x.shape[1]] if self.scaling == "iddpm" else output
        if output.shape != x.shape:
            raise ValueError(
                f"expected the network to return fields of shape {tuple(x.shape)}, as the noisy "
                f"ones, got {tuple(output.shape)}"
            )
        return output.to(x.dtype)

    def _checked(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        if x.ndim < 2 or not x.is_floating_point():
            raise ValueError(
                f"expected noisy fields of shape (batch, channels, ...), in floating-point "
                f"numbers, got {x.dtype} of shape {tuple(x.shape)}"
            )
        x = x.to(at_least_float32(x.dtype))
        if not isinstance(t, Tensor):
            return x, x.new_full((x.shape[0],), t)
        # The batch comes first: compared with 1, the size of an exported program would be fixed.
        if t.shape not in ((x.shape[0],), (), (1,)):
            raise ValueError(
                f"expected a time, or one for each of {x.shape[0]} samples, got {t.shape}"
            )
        return x, t.to(x).expand(x.shape[0])

    def _of_time(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and the level at times, to multiply fields with."""
        shape = -1, *[1] * (x.ndim - 1)
        return self.schedule.alpha(t).reshape(shape), self.schedule.level(t).reshape(shape)

    def _sigma_data(self, x: Tensor) -> float | Tensor:
        if not isinstance(self.sigma_data, list):
            return self.sigma_data
        if len(self.sigma_data) != x.shape[1]:
            raise ValueError(
                f"sigma_data is for {len(self.sigma_data)} channels, got x of shape "
                f"{tuple(x.shape)}"
            )
        # Filled on the device, so that no copy waits for it.
        shape = [1] * (x.ndim - 2)
        return torch.stack([x.new_full(shape, value) for value in self.sigma_data])


def _flags(network: nn.Module) -> ModelMetaData:
    """Return what the network declares, where nothing that surrounds it stands in the way."""
    own = getattr(network, "meta", None) or ModelMetaData()
    return ModelMetaData(
        name="Diffusion",
        cuda_graphs=own.cuda_graphs,
        amp_cpu=own.amp_cpu,
        amp_gpu=own.amp_gpu,
    )


def _storable(value: Any) -> Any:
    return value.record() if isinstance(value, Schedule) else value
