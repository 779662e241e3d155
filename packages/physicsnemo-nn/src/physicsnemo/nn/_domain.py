# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the fields of shared layers over ranks.

The entry-point group ``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.nn.transformer import DropPath


def drop_path(module: DropPath, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of stochastic depth, in which all ranks leave out the same samples."""
    whole = module.forward

    def forward(x: Tensor) -> Tensor:
        if not (module.training and module.drops):
            return x
        factors = whole(torch.ones_like(x[(slice(None), *[slice(1)] * (x.ndim - 1))]))
        of_first = factors if domain.rank == 0 else torch.zeros_like(factors)
        kept: Tensor = x * domain.all_reduce(of_first)
        return kept

    return forward


MODELS: dict[type[nn.Module], Callable[[Any], tuple[int, int]]] = {}
RULES: dict[type[nn.Module], Callable[[Any, Any], Any]] = {DropPath: drop_path}
