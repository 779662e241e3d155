# SPDX-License-Identifier: Apache-2.0
"""A model leaves the process around it alone."""

import copy
import logging
import operator
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from physicsnemo.testing._compare import call, move
from physicsnemo.testing.case import Case


class _Unused(Warning):
    """No warning is of this kind."""


class _Setting(NamedTuple):
    """How to read a global setting, how to write it, and another value that it may have."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]
    other: Callable[[Any], Any] | None = None


class _Generator(NamedTuple):
    """How to seed a global generator, to draw from it, and to read and put back its state."""

    seed: Callable[[int], Any]
    draw: Callable[[], float]
    state: _Setting


def _attribute(owner: Any, name: str, other: Callable[[Any], Any] | None = None) -> _Setting:
    return _Setting(
        lambda: copy.copy(getattr(owner, name)), lambda value: setattr(owner, name, value), other
    )


_SETTINGS = {
    "torch.get_default_dtype()": _Setting(
        torch.get_default_dtype,
        torch.set_default_dtype,
        lambda dtype: torch.float32 if dtype is torch.float64 else torch.float64,
    ),
    "torch.get_default_device()": _Setting(torch.get_default_device, torch.set_default_device),
    "torch.is_grad_enabled()": _Setting(
        torch.is_grad_enabled, torch.set_grad_enabled, operator.not_
    ),
    "torch.get_num_threads()": _Setting(
        torch.get_num_threads, torch.set_num_threads, lambda number: 2 if number == 1 else 1
    ),
    "torch.get_float32_matmul_precision()": _Setting(
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        lambda precision: "high" if precision == "highest" else "highest",
    ),
    "torch.are_deterministic_algorithms_enabled()": _Setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "torch.backends.cudnn.benchmark": _attribute(torch.backends.cudnn, "benchmark", operator.not_),
    "torch.backends.cudnn.deterministic": _attribute(
        torch.backends.cudnn, "deterministic", operator.not_
    ),
    "warnings.filters": _attribute(
        warnings, "filters", lambda filters: [("default", None, _Unused, None, 0), *filters]
    ),
    "logging.root.handlers": _attribute(logging.root, "handlers"),
}
_GENERATORS = {
    "torch": _Generator(
        torch.manual_seed,
        lambda: torch.rand(()).item(),
        _Setting(torch.get_rng_state, torch.set_rng_state),
    ),
    "numpy.random": _Generator(
        np.random.seed,  # the global generator is the point
        np.random.random,
        _Setting(np.random.get_state, np.random.set_state),
    ),
    "random": _Generator(random.seed, random.random, _Setting(random.getstate, random.setstate)),
}


def check_global_state(case: Case, device: torch.device) -> None:
    """Global settings stay as they are, and global generators unseeded, as the model works."""
    with _restored():
        first, second = (_draw_after_use(case, device, seed) for seed in (1, 2))
        # Once more from other values, since the model may have been used before, and a setting
        # that it makes be in force already.
        for setting in _SETTINGS.values():
            if setting.other is not None:
                setting.write(setting.other(setting.read()))
        _draw_after_use(case, device, seed=1)
    if seeded := [name for name in _GENERATORS if first[name] == second[name]]:
        raise AssertionError(
            f"the model seeds the generator of {', '.join(seeded)}; leave that to the user, and "
            f"draw from a generator of its own where numbers must be the same each time"
        )


def _draw_after_use(case: Case, device: torch.device, seed: int) -> dict[str, float]:
    """Seed all generators, build and call the model, and return the next number of each."""
    for generator in _GENERATORS.values():
        generator.seed(seed)
    before = {name: setting.read() for name, setting in _SETTINGS.items()}
    # Not by Case.build, which puts the generator back; in double, whatever the default is.
    model = case.model_class(**copy.deepcopy(case.arguments)).to(device).double()
    call(model, move(move(case.inputs(), device), torch.float64))
    if changed := [name for name, setting in _SETTINGS.items() if setting.read() != before[name]]:
        raise AssertionError(f"the model changes {', '.join(changed)}; leave that to the user")
    return {name: generator.draw() for name, generator in _GENERATORS.items()}


@contextmanager
def _restored() -> Iterator[None]:
    states = [(generator.state, generator.state.read()) for generator in _GENERATORS.values()]
    settings = [(setting, setting.read()) for setting in _SETTINGS.values()]
    try:
        yield
    finally:
        for state, value in states:
            state.write(value)
        for setting, value in settings:
            if setting.read() != value:
                setting.write(value)
