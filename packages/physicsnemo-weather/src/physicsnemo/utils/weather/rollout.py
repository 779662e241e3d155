# SPDX-License-Identifier: Apache-2.0
"""Autoregressive rollout."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

__all__ = ["rollout"]

State = TypeVar("State")


def rollout(
    model: Callable[..., State],
    state: State,
    steps: int,
    forcing: Callable[[int], Any] | None = None,
    *,
    gradients: bool = False,
) -> Iterator[State]:
    """Roll out a model autoregressively: predict each state from the previous one.

    States are yielded one at a time and only the last is kept, so memory does not grow with the
    number of steps.

    Parameters
    ----------
    model
        Function of a state that returns the next one: a model, or a function that also passes
        constants, adds increments or selects outputs. A state is whatever it takes, such as a
        tensor, or a tuple of tensors. The model is neither moved to another device nor put into
        evaluation mode.
    state
        Initial state, which is not yielded.
    steps
        Number of steps.
    forcing
        Function of the step, counted from 0, whose value is the second argument of the model in
        that step, such as :func:`cos_zenith_angle` at its time.
    gradients
        Whether to backpropagate through all steps, which keeps their autograd graph in memory.

    Yields
    ------
    The state after each step.

    Raises
    ------
    ValueError
        If ``steps`` is negative.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.utils.weather import rollout
    >>> [state.item() for state in rollout(lambda state: state / 2, torch.tensor(8.0), steps=3)]
    [4.0, 2.0, 1.0]
    >>> winds = torch.tensor([4.0, 8.0])
    >>> states = rollout(torch.add, torch.tensor(1.0), steps=2, forcing=lambda step: winds[step])
    >>> [state.item() for state in states]
    [5.0, 13.0]
    """
    if steps < 0:
        raise ValueError(f"expected a number of steps of at least 0, got {steps}")
    return _states(model, state, steps=steps, forcing=forcing, gradients=gradients)


def _states(
    model: Callable[..., State],
    state: State,
    *,
    steps: int,
    forcing: Callable[[int], Any] | None,
    gradients: bool,
) -> Iterator[State]:
    for step in range(steps):
        # Around the model only, as the caller runs between the steps of a generator.
        with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            state = model(state) if forcing is None else model(state, forcing(step))
        yield state
