# SPDX-License-Identifier: Apache-2.0
"""Rules by which ``physicsnemo.distributed`` divides the rows of pix2pix's fields over ranks.

Its layers are PyTorch's own, whose rules are there. The entry-point group ``physicsnemo.domain``
names this module.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from physicsnemo.models.pix2pix.pix2pix import TOO_SMALL, Pix2Pix
from physicsnemo.nn.checks import check_grid, check_input


def generator(module: Pix2Pix, domain: Any) -> Callable[[Tensor], Tensor]:
    """Return the forward of a generator, which needs so many rows on all ranks together."""

    def forward(input: Tensor) -> Tensor:
        check_input(input, module.layout, next(module.parameters()))
        rows = domain.rows(input.shape[2]).total
        whole = input[:, :, :1].expand(-1, -1, rows, *input.shape[3:])
        check_grid(whole, module.least_points, TOO_SMALL)
        output: Tensor = module.model(input)
        return output.contiguous()

    return forward


MODELS = {Pix2Pix: lambda model: (2, 2**model.downsamplings)}
RULES = {Pix2Pix: generator}
