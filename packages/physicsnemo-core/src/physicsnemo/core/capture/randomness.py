# SPDX-License-Identifier: Apache-2.0
"""The random generators of the host, which a CUDA graph cannot advance."""

import random
import sys
from typing import Any

import torch


class HostRandomness:
    """The states of the host's global generators: PyTorch's, Python's and NumPy's."""

    def __init__(self) -> None:
        self._torch, self._python = torch.get_rng_state(), random.getstate()
        # Not imported for this: who draws from it has imported it.
        self._numpy = sys.modules.get("numpy")
        self._numpy_state = self._read_numpy()

    def changed(self) -> bool:
        """Return whether any has advanced."""
        return (
            not torch.equal(self._torch, torch.get_rng_state())
            or self._python != random.getstate()
            or self._numpy_state != self._read_numpy()
        )

    def restore(self) -> None:
        """Turn them back."""
        torch.set_rng_state(self._torch)
        random.setstate(self._python)
        if self._numpy is not None:
            name, keys, *rest = self._numpy_state
            self._numpy.random.set_state((name, self._numpy.frombuffer(keys, "uint32"), *rest))

    def _read_numpy(self) -> Any:
        if self._numpy is None:
            return None
        name, keys, *rest = self._numpy.random.get_state()
        return (name, keys.tobytes(), *rest)
