# SPDX-License-Identifier: Apache-2.0
"""Small networks that act on the channels at each point."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from physicsnemo.nn import get_activation


def pointwise_network(sizes: Sequence[int], activation: str, drop_rate: float = 0.0) -> nn.Module:
    """Return convolutions of width 1, with an activation and dropout after each but the last.

    Weights start from normal distributions that keep the mean square, biases from zero.

    Parameters
    ----------
    sizes
        Channels of the input, of each hidden layer and of the output.
    activation
        Name of the activation (:func:`physicsnemo.nn.get_activation`).
    drop_rate
        Share of the hidden channels to drop in training.

    References
    ----------
    He et al. 2015, arXiv:1502.01852.
    """
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes[:-1]):
        # The activation halves the mean square.
        linear = _linear(fan_in, fan_out, gain=2.0)
        layers += [linear, get_activation(activation), nn.Dropout2d(drop_rate)]
    return nn.Sequential(*layers, _linear(sizes[-2], sizes[-1], gain=1.0))


def _linear(fan_in: int, fan_out: int, gain: float) -> nn.Conv2d:
    layer = nn.Conv2d(fan_in, fan_out, kernel_size=1)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_in))
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
