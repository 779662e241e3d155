# SPDX-License-Identifier: Apache-2.0
"""Solvers of release 2.2: methods of :mod:`physicsnemo.diffusion.methods` along a denoiser."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from physicsnemo.diffusion._noise import Generator, draw_normal
from physicsnemo.diffusion.methods import Churn, Euler, Flow, Heun, Method
from physicsnemo.diffusion.release_2_2.protocols import Denoiser, NoiseScheduler, Solver
from physicsnemo.diffusion.release_2_2.schedulers import ScheduledNoise
from physicsnemo.diffusion.sampling import checked_times
from physicsnemo.nn.checks import check_choice

_Of = Callable[[Tensor], Tensor]


class _Slopes(Flow):
    """A flow of which a denoiser gives the slope itself, in place of an estimate of the data."""

    def __init__(
        self,
        denoiser: Denoiser,
        steps: int = 1,
        generator: Generator = None,
        sigma_fn: _Of | None = None,
        sigma_inv_fn: _Of | None = None,
    ) -> None:
        self.steps, self.last = steps, None
        self._denoiser, self._generator = denoiser, generator
        scheduler = getattr(denoiser, "scheduler", None)
        flow = scheduler.schedule.flow if isinstance(scheduler, ScheduledNoise) else None
        self._alpha = flow.s if flow else lambda t: 1.0
        self._level = flow.schedule.sigma if flow else _in_numbers(sigma_fn)
        self._time = flow.schedule.sigma_inv if flow else _in_numbers(sigma_inv_fn)

    def x0(self, x: Tensor, t: float) -> Tensor:
        return self._denoiser(x, x.new_full((x.shape[0],), t))

    def slope(self, t: float, x: Tensor, x0: Tensor) -> Tensor:
        return x0

    def alpha(self, t: float) -> float:
        return self._alpha(t)

    def level(self, t: float) -> float:
        return self._level(t)

    def time(self, level: float) -> float:
        return self._time(level)

    def noise(self, x: Tensor) -> Tensor:
        return draw_normal(x.shape, x, self._generator)


class _Solver:
    """A method and the flow that it follows."""

    _method: Method
    _flow: _Slopes

    def step(self, x: Tensor, t_cur: Tensor, t_next: Tensor) -> Tensor:
        """Return the state at ``t_next``.

        It waits for the device of the times, which :func:`sample` does not.

        Parameters
        ----------
        x
            State of shape (batch, ...).
        t_cur, t_next
            Times of shape (batch,), the same for all samples.

        Raises
        ------
        ValueError
            If samples have different times.
        """
        return self.between(x, _shared(t_cur), _shared(t_next))

    def between(self, x: Tensor, t: float, t_next: float) -> Tensor:
        """Return the state at ``t_next``, of times in numbers."""
        return self._method(self._flow, x, t, t_next)


class EulerSolver(_Solver):
    """:class:`~physicsnemo.diffusion.Euler`'s method.

    Parameters
    ----------
    denoiser
        The derivative of the state.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self._method, self._flow = Euler(), _Slopes(denoiser)


class HeunSolver(_Solver):
    """:class:`~physicsnemo.diffusion.Heun`'s method; the last step, to time 0, is Euler's.

    Parameters
    ----------
    denoiser
        The derivative of the state.
    alpha
        Where in a step the second slope is: above 0, at most 1.

    Raises
    ------
    ValueError
        If ``alpha`` is out of range.
    """

    def __init__(self, denoiser: Denoiser, alpha: float = 1.0) -> None:
        self._method, self._flow = Heun(alpha), _Slopes(denoiser)


class _Stochastic(_Solver):
    def __init__(
        self,
        method: Method,
        denoiser: Denoiser,
        S_churn: float,  # noqa: N803
        S_min: float,  # noqa: N803
        S_max: float,  # noqa: N803
        S_noise: float,  # noqa: N803
        num_steps: int,
        sigma_fn: _Of | None,
        sigma_inv_fn: _Of | None,
        generator: Generator,
    ) -> None:
        if (sigma_fn is None) != (sigma_inv_fn is None):
            raise ValueError("expected sigma_fn and sigma_inv_fn, or none of them, got one")
        self._method = Churn(method, S_churn, S_min, S_max, S_noise)
        self._flow = _Slopes(denoiser, num_steps, generator, sigma_fn, sigma_inv_fn)


class EDMStochasticEulerSolver(_Stochastic):
    """:class:`~physicsnemo.diffusion.Churn` before each of Euler's steps.

    Parameters
    ----------
    denoiser
        The derivative of the state along the probability flow. One that a scheduler made tells the
        levels of the noise too, whatever the schedule.
    S_churn, S_min, S_max, S_noise
        ``amount``, ``level_min``, ``level_max`` and ``noise`` of
        :class:`~physicsnemo.diffusion.Churn`.
    num_steps
        How many steps share ``S_churn``. :func:`sample` knows, and sets it by itself.
    sigma_fn, sigma_inv_fn
        The level of the noise by the time and back, for denoisers of other functions; by default
        both are the same.
    diffusion_fn
        Makes no difference: the variance of the noise is what the levels differ by.
    generator
        Source of the noise.

    Raises
    ------
    ValueError
        If a number is out of range, or one of the two functions is missing.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        S_churn: float = 0.0,  # noqa: N803
        S_min: float = 0.0,  # noqa: N803
        S_max: float = math.inf,  # noqa: N803
        S_noise: float = 1.0,  # noqa: N803
        num_steps: int = 18,
        sigma_fn: _Of | None = None,
        sigma_inv_fn: _Of | None = None,
        diffusion_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        generator: Generator = None,
    ) -> None:
        noise = S_churn, S_min, S_max, S_noise
        super().__init__(Euler(), denoiser, *noise, num_steps, sigma_fn, sigma_inv_fn, generator)


class EDMStochasticHeunSolver(_Stochastic):
    """:class:`~physicsnemo.diffusion.Churn` before each of Heun's steps.

    Parameters
    ----------
    alpha
        As of :class:`HeunSolver`.
    denoiser, S_churn, S_min, S_max, S_noise, num_steps, sigma_fn, sigma_inv_fn, diffusion_fn
        As of :class:`EDMStochasticEulerSolver`, and so is the error.
    generator
        Source of the noise.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        alpha: float = 1.0,
        S_churn: float = 0.0,  # noqa: N803
        S_min: float = 0.0,  # noqa: N803
        S_max: float = math.inf,  # noqa: N803
        S_noise: float = 1.0,  # noqa: N803
        num_steps: int = 18,
        sigma_fn: _Of | None = None,
        sigma_inv_fn: _Of | None = None,
        diffusion_fn: Callable[[Tensor, Tensor], Tensor] | None = None,
        generator: Generator = None,
    ) -> None:
        method, noise = Heun(alpha), (S_churn, S_min, S_max, S_noise)
        super().__init__(method, denoiser, *noise, num_steps, sigma_fn, sigma_inv_fn, generator)


SOLVERS: dict[str, type[Solver]] = {
    "euler": EulerSolver,
    "heun": HeunSolver,
    "edm_stochastic_euler": EDMStochasticEulerSolver,
    "edm_stochastic_heun": EDMStochasticHeunSolver,
}
"""The solvers that :func:`sample` knows by name."""


def sample(
    denoiser: Denoiser,
    xN: Tensor,  # noqa: N803
    noise_scheduler: NoiseScheduler,
    num_steps: int,
    solver: str | Solver = "heun",
    time_steps: Sequence[float] | Tensor | None = None,
    solver_options: Mapping[str, Any] | None = None,
    time_eval: Sequence[int] | None = None,
) -> Tensor | list[Tensor]:
    """Sample along a denoiser, as scripts of release 2.2 do.

    Parameters
    ----------
    denoiser
        The derivative of the state, as from ``noise_scheduler.get_denoiser(...)``.
    xN
        The state to begin with, of shape (batch, ...), as from ``noise_scheduler.init_latents``.
    noise_scheduler
        Gives the times.
    num_steps
        Number of steps, unless there are ``time_steps``.
    solver
        A name in ``SOLVERS``, or an object with a ``step``, which then holds its own denoiser.
    time_steps
        The times themselves, decreasing.
    solver_options
        Options of the solver, if it is a name.
    time_eval
        Numbers of the steps after which to return the state.

    Returns
    -------
    Samples, or a list of the states after the steps of ``time_eval``, in their order.

    Raises
    ------
    ValueError
        If the solver is unknown, times do not decrease, steps to return are no steps, or there are
        options for an object.
    """
    if time_steps is None:
        cpu = torch.device("cpu")
        time_steps = noise_scheduler.timesteps(num_steps, device=cpu, dtype=torch.float64)
    numbers = time_steps.tolist() if isinstance(time_steps, Tensor) else time_steps
    times = checked_times(numbers)
    if time_eval is not None and not all(0 <= step < len(times) - 1 for step in time_eval):
        raise ValueError(f"expected time_eval within range({len(times) - 1}), got {time_eval}")
    step = _step(solver, denoiser, dict(solver_options or {}), len(times) - 1)
    x, seen = xN, []
    for i, (t, t_next) in enumerate(pairwise(times)):
        x = step(x, t, t_next)
        if time_eval is not None and i in time_eval:
            seen.append(x.clone())
    return x if time_eval is None else seen


def _step(
    solver: str | Solver, denoiser: Denoiser, options: dict[str, Any], steps: int
) -> Callable[[Tensor, float, float], Tensor]:
    if isinstance(solver, str):
        check_choice("solver", solver, SOLVERS)
        kind: Any = SOLVERS[solver]
        if issubclass(kind, _Stochastic):
            options = {"num_steps": steps, **options}
        between: Callable[[Tensor, float, float], Tensor] = kind(denoiser, **options).between
        return between
    if options:
        raise ValueError(
            f"expected solver_options for a solver by name alone, got {', '.join(options)}; give "
            f"them to the {type(solver).__name__} as it is built"
        )
    if isinstance(solver, _Solver):
        return solver.between

    def step(x: Tensor, t: float, t_next: float) -> Tensor:
        return solver.step(x, x.new_full((x.shape[0],), t), x.new_full((x.shape[0],), t_next))

    return step


def _shared(t: Tensor) -> float:
    first, *others = {*t.flatten().tolist()}
    if others:
        raise ValueError(f"expected all samples of a batch to have one time, got {t.tolist()}")
    return float(first)


def _in_numbers(function: _Of | None) -> Callable[[float], float]:
    if function is None:
        return lambda value: value
    return lambda value: float(function(torch.tensor(value, dtype=torch.float64)))
