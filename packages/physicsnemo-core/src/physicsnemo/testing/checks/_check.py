# SPDX-License-Identifier: Apache-2.0
"""What a check is."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from physicsnemo.testing.case import Case

# PyTorch's own tools give these about themselves, whatever the model.
_NOISE = (
    ("`torch.jit", Warning),  # of a kind that depends on the release
    (".*LeafSpec", FutureWarning),
    ("There is a performance drop because we have not yet implemented", UserWarning),
    (".*torch.autograd.function.Function.* should not be instantiated", DeprecationWarning),
)


def _always(case: Case, device: torch.device) -> bool:
    return True


@dataclass(frozen=True)
class Check:
    """A property that models are expected to have, and the function that tries it.

    Parameters
    ----------
    name
        How reports call it.
    function
        Takes a case and a device; raises where the property does not hold. The first line of its
        docstring is the property, in words.
    expensive
        Whether it takes seconds, as all compilers do.
    applies
        Takes a case and a device, and tells whether the check has a meaning for them.
    """

    name: str
    function: Callable[[Case, torch.device], Any]
    expensive: bool = False
    applies: Callable[[Case, torch.device], bool] = _always

    @property
    def description(self) -> str:
        """The property in words."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, case: Case, device: torch.device) -> None:
        """Try the property, with seeded generators that are put back afterwards.

        Raises
        ------
        Exception
            If it does not hold: ``AssertionError``, or whatever the model raised.
        """
        devices = [device] if device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), warnings.catch_warnings():
                for message, category in _NOISE:
                    warnings.filterwarnings("ignore", message, category)
                torch.manual_seed(0)
                self.function(case, device)
        except Exception as error:
            error.add_note(f"{case}, check {self.name!r} on {device}: {self.description}")
            raise
