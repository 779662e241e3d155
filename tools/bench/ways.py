# SPDX-License-Identifier: Apache-2.0
"""Which way a model's Fourier transforms take."""

from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.nn.fourier import transforms
from physicsnemo.nn.fourier.choice import prefer_matmul
from physicsnemo.testing.case import Case


def ways(case: Case, device: torch.device) -> list[str]:
    """Say of each kind of axis that the case's model transforms which way it chooses."""
    with torch.device("meta"):  # to see the sizes, nothing needs to be computed
        model = case.build()
    inputs = pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), case.inputs())
    with patch.object(transforms, "prefer_matmul", wraps=prefer_matmul) as choice, torch.no_grad():
        model(*inputs)
    sizes = dict.fromkeys(call.args[:2] for call in choice.call_args_list)
    return [f"{kept} modes of {n} points by {way(n, kept, device)}" for n, kept in sizes]


def way(n: int, kept: int, device: torch.device) -> str:
    """Return how an axis is transformed: by a ``product`` with a matrix, or by ``fft``."""
    return "product" if prefer_matmul(n, kept, device.type) else "fft"
