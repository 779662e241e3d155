# SPDX-License-Identifier: Apache-2.0
"""By which method a model transforms each axis: a product with a DFT matrix, or an FFT."""

from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from physicsnemo.nn.fourier import transforms
from physicsnemo.nn.fourier.choice import prefer_matmul
from physicsnemo.testing.case import Case


def fourier_methods(case: Case, device: torch.device) -> list[str]:
    """Say of each kind of axis that the model of a case transforms by which method."""
    with torch.device("meta"):  # to see the sizes, nothing needs to be computed
        model = case.build()
    inputs = pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), case.inputs())
    with patch.object(transforms, "prefer_matmul", wraps=prefer_matmul) as choice, torch.no_grad():
        model(*inputs)
    sizes = dict.fromkeys(call.args[:2] for call in choice.call_args_list)
    return [f"{kept} modes of {n} points by {fourier_method(n, kept, device)}" for n, kept in sizes]


def fourier_method(n: int, kept: int, device: torch.device) -> str:
    """Return how an axis is transformed: by a ``product`` with a matrix, or by ``fft``."""
    return "product" if prefer_matmul(n, kept, device.type) else "fft"
