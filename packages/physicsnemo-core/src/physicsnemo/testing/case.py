# SPDX-License-Identifier: Apache-2.0
"""A model with arguments and inputs that show it at work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from physicsnemo.models.module import Module
from physicsnemo.registry import ModelRegistry


@dataclass(frozen=True)
class Case:
    """One example of a model, as tests and benchmarks use it.

    Parameters
    ----------
    id
        Name of the case, unique among those of its model.
    model
        The class, or its name in the registry.
    arguments
        Constructor arguments, by name.
    inputs
        Returns fresh arguments of ``forward``, tensors on the CPU; small.

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
    inputs: Callable[[], tuple[Any, ...]]

    def build(self, seed: int = 0) -> Module:
        """Return a new model with the same weights each time, without touching the global seed."""
        model_class = (
            ModelRegistry().factory(self.model) if isinstance(self.model, str) else self.model
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return model_class(**self.arguments)

    def __str__(self) -> str:
        """Return ``<model>-<id>``, for test names."""
        return f"{self.model if isinstance(self.model, str) else self.model.__name__}-{self.id}"
