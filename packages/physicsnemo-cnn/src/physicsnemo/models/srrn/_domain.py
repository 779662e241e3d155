# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the rows of SRResNet's fields over ranks.

Its layers are PyTorch's own, whose rules are there, or look at single points. The entry-point group
``physicsnemo.domain`` names this module.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from physicsnemo.models.srrn.super_res_net import SRResNet

MODELS = {SRResNet: lambda model: (2, 1)}
RULES: dict[type[nn.Module], Callable[[Any, Any], Any]] = {}
