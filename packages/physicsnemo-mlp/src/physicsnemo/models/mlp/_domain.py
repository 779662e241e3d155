# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides points over ranks.

Each point is computed by itself, so there are no rules. The entry-point group
``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from physicsnemo.models.mlp.fully_connected import FullyConnected

MODELS = {FullyConnected: lambda model: (0, 1)}
RULES: dict[type[nn.Module], Callable[[Any, Any], Any]] = {}
