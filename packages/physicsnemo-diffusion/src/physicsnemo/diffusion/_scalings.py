# SPDX-License-Identifier: Apache-2.0
"""How networks are scaled, at a level of the noise relative to the data."""

from typing import Literal

import torch
from torch import Tensor

from physicsnemo.models.diffusion.preconditioning import Scalings
from physicsnemo.models.diffusion.preconditioning._edm import edm_scalings

Scaling = Literal["edm", "vp", "ve", "iddpm"]


def scalings(
    kind: Scaling | None, level: Tensor, label: Tensor, sigma_data: float | Tensor
) -> Scalings:
    r"""Return the factors of fields without scale, that is of :math:`x_t / \alpha`.

    Parameters
    ----------
    kind
        ``"edm"``, to unit variance of the network's input and target; ``"vp"`` and ``"iddpm"``, to
        unit variance of its input, and it returns the noise times -1; ``"ve"``, the input as it
        is, the output times the level.
    level
        Levels, to multiply fields with.
    label
        What the network is told of them.
    sigma_data
        Standard deviation of the data, for ``"edm"``.
    """
    ones = torch.ones_like(level)
    if kind == "edm":
        return edm_scalings(level, sigma_data)._replace(c_noise=label)
    if kind == "ve":
        return Scalings(c_skip=ones, c_out=level, c_in=ones, c_noise=label)
    return Scalings(c_skip=ones, c_out=-level, c_in=(level.square() + 1).rsqrt(), c_noise=label)


def error_weight(kind: Scaling | None, level: Tensor, sigma_data: float | Tensor) -> Tensor:
    """Return the weight of the square error of data that makes that of the network count as one.

    Without a scaling, it is that of the noise.
    """
    if kind is None:
        return level.square().reciprocal()
    return scalings(kind, level, level, sigma_data).c_out.square().reciprocal()
