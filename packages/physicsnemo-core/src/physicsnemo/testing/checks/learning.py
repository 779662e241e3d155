# SPDX-License-Identifier: Apache-2.0
"""Training reaches the whole model."""

import torch

from physicsnemo.testing._compare import call, disturb, gradients, move
from physicsnemo.testing.case import Case

# How often a path may be closed by chance, as dropout and stochastic depth do.
_TRIES = 3


def check_gradients(case: Case, device: torch.device) -> None:
    """Gradients reach every trainable parameter but those, and all those, that the case lists."""
    model = case.build().to(device).train()
    disturb(model)  # a layer that starts at zero passes no gradient on
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    if unknown := case.dead.keys() - trainable:
        raise AssertionError(f"listed as dead, but no trainable parameters: {sorted(unknown)}")
    reached: set[str] = set()
    for _ in range(_TRIES):
        found = gradients(model, call(model, move(case.inputs(), device)))
        reached |= {name for name, gradient in found.items() if gradient.any()}
    if alive := case.dead.keys() & reached:
        raise AssertionError(f"listed as dead, but a gradient reaches: {sorted(alive)}")
    if missed := trainable - reached - case.dead.keys():
        raise AssertionError(
            f"no gradient reaches {sorted(missed)}; use them in forward, remove them, or list them "
            f"in the case: dead={{name: reason}}"
        )
