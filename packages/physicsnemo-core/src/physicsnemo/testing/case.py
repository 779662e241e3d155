# SPDX-License-Identifier: Apache-2.0
"""A model with arguments and inputs that show it at work."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from physicsnemo.models.module import Module
from physicsnemo.registry import ModelRegistry

Inputs = tuple[Any, ...] | dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One example of a model, as the conformance checks, tests and benchmarks use it.

    Parameters
    ----------
    id
        Name of the case, unique among those of its model.
    model
        The class, or its name in the registry.
    arguments
        Constructor arguments, by name.
    inputs
        Returns the arguments of ``forward``, in a tuple, or by name in a dictionary: fresh tensors
        on the CPU, small, and with the same numbers at each call.
    dead
        Trainable parameters that no gradient reaches, by name, each with the reason; by default
        none.
    batched
        Whether the first axis of every input and output tensor counts independent samples.
    exceptions
        Checks that the model cannot pass, by name, such as ``pickle`` or ``meta_device``, each with
        the reason; by default none. They are tried all the same, and one that passes is a failure.
    accepts
        Bad inputs, as :func:`check_bad_inputs` makes them, that the model can take, by argument and
        kind, such as ``x:float64`` or ``*:float64``, each with the reason; by default none.

    Examples
    --------
    >>> linear = Module.from_torch(torch.nn.Linear)
    >>> arguments = {"in_features": 3, "out_features": 2}
    >>> case = Case("small", linear, arguments, lambda: (torch.ones(4, 3),))
    >>> case.build()(*case.inputs()).shape
    torch.Size([4, 2])
    """

    id: str
    model: str | type[Module]
    arguments: dict[str, Any]
    inputs: Callable[[], Inputs]
    dead: Mapping[str, str] = field(default_factory=dict)
    batched: bool = True
    exceptions: Mapping[str, str] = field(default_factory=dict)
    accepts: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_class(self) -> type[Module]:
        """The class; looked up in the registry if the case only names it."""
        return ModelRegistry().factory(self.model) if isinstance(self.model, str) else self.model

    def build(self, seed: int = 0) -> Module:
        """Return a new model with the same weights each time, without touching the global seed."""
        model_class = self.model_class
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Copied, since models among the arguments become parts of the model.
            return model_class(**copy.deepcopy(self.arguments))

    def __str__(self) -> str:
        """Return ``<model>-<id>``, for test names."""
        return f"{self.model if isinstance(self.model, str) else self.model.__name__}-{self.id}"


def noise(*shape: int) -> Callable[[], tuple[torch.Tensor]]:
    """Return a function that makes one input of a shape, the same one each time.

    It serves as ``inputs`` of a :class:`Case`.

    Parameters
    ----------
    shape
        Sizes of the input's axes.

    Returns
    -------
    A function of no arguments, which returns a tuple of one tensor of this shape: standard normal
    numbers, on the CPU. The global generator is left alone.

    Examples
    --------
    >>> from physicsnemo.testing import noise
    >>> make = noise(4, 3)
    >>> make()[0].shape, make()[0].equal(make()[0])
    (torch.Size([4, 3]), True)
    """
    return lambda: (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)
