# SPDX-License-Identifier: Apache-2.0
"""The adapter as a graph break; imported only while compiling, as it imports the compiler."""

from collections.abc import Callable

import torch

from physicsnemo.models.gnn_layers.adapters import adapt
from physicsnemo.models.gnn_layers.graph import Graph

adapt_uncompiled: Callable[..., Graph] = torch.compiler.disable(
    adapt, reason="convert other libraries' graphs by as_graph before compiled code"
)
