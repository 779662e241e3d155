# SPDX-License-Identifier: Apache-2.0
"""Constant tensors that follow the device and the dtype of their module."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from physicsnemo.nn.precision import at_least_float32


class Table(nn.Module):
    """Constant tensor: a non-persistent buffer that is exact in every dtype of its module.

    It is computed in float64 and rounded to the type of the model, so that nothing is lost if that
    is float64, by :meth:`torch.nn.Module.double` or by :func:`torch.set_default_dtype`. It is never
    rounded below float32: in half precision, the tables of a transform would be its largest error.
    It is not saved with the model, and is computed anew where a model leaves the meta device. Hold
    one for each table, and multiply by what :meth:`like` returns.

    Parameters
    ----------
    compute
        Returns the tensor in float64, on the CPU whatever the default device is; must be picklable,
        as :func:`functools.partial` of a module's function is.

    Attributes
    ----------
    value
        The tensor.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.nn.table import Table
    >>> third = Table(lambda: torch.tensor(1 / 3, dtype=torch.float64))
    >>> third.half().value.dtype, third.double().value.item() == 1 / 3
    (torch.float32, True)
    """

    value: Tensor

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        super().__init__()
        self._compute = compute
        precision = at_least_float32(torch.get_default_dtype())
        start = compute().to(precision).to(torch.get_default_device())
        self.register_buffer("value", start, persistent=False)

    def exact(self) -> Tensor:
        """Return the table as it is computed: in float64, on the CPU."""
        return self._compute()

    def like(self, x: Tensor) -> Tensor:
        """Return the table in the type of what it is to meet, but in float32 at least.

        Raises
        ------
        TypeError
            If that type is wider than that of the table, whose digits would be missed.
        """
        precision = at_least_float32(x.dtype)
        if torch.promote_types(precision, self.value.dtype) != self.value.dtype:
            raise TypeError(
                f"expected {self.value.dtype} or less, as the tables of this module are, got "
                f"{x.dtype}; convert the module, as in module.to({x.dtype}), or the input"
            )
        return self.value.to(precision)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Asked of an empty tensor where to go, since to_empty leaves no values.
        target = fn(self.value.new_empty(0))
        precision = at_least_float32(target.dtype)
        lacking = self.value.is_meta or precision.itemsize > self.value.dtype.itemsize
        exact = self._compute() if lacking else self.value
        self.value = exact.to(precision).to(target.device)
        return self
