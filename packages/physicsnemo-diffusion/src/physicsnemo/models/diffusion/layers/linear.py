# SPDX-License-Identifier: Apache-2.0
"""Linear layers, and the initialization of all layers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from physicsnemo.nn.checks import check_choice

INIT_MODES = ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal")


class Linear(nn.Module):
    """Linear layer with a choice of initialization.

    Parameters
    ----------
    in_features
        Input features.
    out_features
        Output features.
    bias
        Whether to add a bias.
    init_mode
        Initialization of weights and bias: a mode of :func:`weight_init`.
    init_weight
        Scale of the initial weights.
    init_bias
        Scale of the initial bias.
    amp_mode
        Leave types to autocast. Otherwise weights are cast to the type of the input, if autocast
        does not cast both.

    References
    ----------
    Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
    arXiv:2206.00364.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init_mode: str = "kaiming_normal",
        init_weight: float = 1,
        init_bias: float = 0,
        amp_mode: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.amp_mode = in_features, out_features, amp_mode
        fans = in_features, out_features
        shape = (out_features, in_features)
        self.weight = nn.Parameter(weight_init(shape, init_mode, *fans) * init_weight)
        start = weight_init((out_features,), init_mode, *fans) * init_bias if bias else None
        self.bias = None if start is None else nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """Map features of shape (..., in_features) to (..., out_features)."""
        weight, bias = typed_like(x, self.amp_mode, self.weight, self.bias)
        return functional.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """Return what sets this layer apart in printed models."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def weight_init(shape: Sequence[int], mode: str, fan_in: int, fan_out: int) -> Tensor:
    """Draw initial weights.

    Parameters
    ----------
    shape
        Shape of the weights.
    mode
        ``xavier_uniform``, ``xavier_normal``, ``kaiming_uniform`` or ``kaiming_normal``. Weights
        of the first two have the variance 2 / (fan_in + fan_out), of the others 1 / fan_in.
    fan_in
        Inputs of each output.
    fan_out
        Outputs of each input.

    Raises
    ------
    ValueError
        If there is no such mode.

    References
    ----------
    Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural
    networks; He et al. 2015, arXiv:1502.01852.

    Examples
    --------
    >>> import torch
    >>> from physicsnemo.models.diffusion import weight_init
    >>> weight_init((4, 12), "kaiming_uniform", fan_in=12, fan_out=4).abs().max() <= 0.5
    tensor(True)
    """
    check_choice("init_mode", mode, INIT_MODES)
    variance = 2 / (fan_in + fan_out) if mode.startswith("xavier") else 1 / fan_in
    weights = torch.empty(tuple(shape))
    if mode.endswith("uniform"):
        return weights.uniform_(-1, 1) * math.sqrt(3 * variance)
    return weights.normal_() * math.sqrt(variance)


def typed_like(
    x: Tensor, amp_mode: bool, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return weights in the type of a layer's input, or as they are in the mode for autocast."""
    if amp_mode:
        return weight, bias
    return weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
