# SPDX-License-Identifier: Apache-2.0
"""The generators of random numbers that all code of a process shares, and their states as data."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

State = dict[str, Any]
"""States by the generators' names; of those in a file, any may be missing."""

_NUMPYS_OWN = "MT19937"  # the kind of its shared generator, unless somebody replaces that


def random_state() -> State:
    """Return the states of the generators of PyTorch, Python and NumPy."""
    version, words, gauss = random.getstate()
    state: State = {
        "cpu": torch.get_rng_state(),
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
    }
    shared = np.random.get_state(legacy=False)  # noqa: NPY002  that of functions like np.random.rand
    if shared["bit_generator"] == _NUMPYS_OWN:
        state["numpy"] = {
            "words": torch.from_numpy(shared["state"]["key"].astype(np.int64)),
            "position": shared["state"]["pos"],
            "has_gauss": shared["has_gauss"],
            "gauss": shared["gauss"],
        }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: State) -> None:
    """Let the generators go on from what :func:`random_state` has returned."""
    _put(
        state,
        cpu=torch.set_rng_state,
        cuda=torch.cuda.set_rng_state,
        python=random.setstate,
        numpy=np.random.set_state,
    )


def check_random_state(state: State) -> None:
    """Try the states out, on generators of nobody.

    Raises
    ------
    Exception
        If one is not valid, as its generator says it.
    """
    _put(
        state,
        cpu=lambda own: torch.Generator("cpu").set_state(own),
        cuda=lambda own: torch.Generator("cuda").set_state(own),
        python=random.Random().setstate,
        numpy=np.random.RandomState().set_state,
    )


def _put(state: Mapping[str, Any], **setters: Callable[[Any], Any]) -> None:
    if "cpu" in state:
        setters["cpu"](state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        setters["cuda"](state["cuda"].cpu())
    if "python" in state:
        own = state["python"]
        setters["python"]((own["version"], tuple(own["words"].tolist()), own["gauss"]))
    if "numpy" in state:
        own = state["numpy"]
        words = own["words"].numpy().astype(np.uint32)
        rest = own["position"], own["has_gauss"], own["gauss"]
        setters["numpy"]((_NUMPYS_OWN, words, *rest))
