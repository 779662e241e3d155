# SPDX-License-Identifier: Apache-2.0
"""Forecasts many steps long."""

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
    """Predict state after state, each from the one before.

    States are yielded one at a time, and none but the last is kept: memory does not grow with the
    number of steps.

    Parameters
    ----------
    model
        Any function of a state that returns the next: a model, or a function around one that also
        puts in constants, adds increments or picks a part of what the model returns. A state is
        whatever it takes, such as a tensor, or a tuple of those at several times. It is neither
        moved to another device nor put into evaluation mode.
    state
        The initial state, which is not yielded.
    steps
        How many states to predict.
    forcing
        Function of the number of a step, from 0 on, whose value the model gets after the state at
        that step, such as :func:`cos_zenith_angle` at its time.
    gradients
        Whether gradients go back through all steps; the graph of all of them is then kept in
        memory.

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
    return _states(model, state, steps, forcing, gradients)


def _states(
    model: Callable[..., State],
    state: State,
    steps: int,
    forcing: Callable[[int], Any] | None,
    gradients: bool,
) -> Iterator[State]:
    for step in range(steps):
        # Around the model only: what the caller does between steps is not ours to change.
        with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            state = model(state) if forcing is None else model(state, forcing(step))
        yield state
