# SPDX-License-Identifier: Apache-2.0
"""Tables that belong to a model but not to its weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """A tensor that follows its model from device to device, and is not saved with it.

    It is computed in float64 and rounded to the precision that the model is converted to, but
    never below float32: in half precision, the tables of a transform would be its largest error.

    Parameters
    ----------
    compute
        Returns the tensor in float64, on the CPU; must be picklable.

    Attributes
    ----------
    value
        The tensor.
    """

    value: Tensor

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        super().__init__()
        self._compute = compute
        start = compute().to(torch.get_default_device(), torch.float32)
        self.register_buffer("value", start, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = self.value
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # What comes from the meta device, where tensors hold no numbers, is not initialized.
        if self.value.dtype != before.dtype or before.is_meta:
            precision = torch.promote_types(self.value.dtype, torch.float32)
            self.value = self._compute().to(self.value.device, precision)
        return self
